"""adapt and finetune with every method: no effect at strength 0, no access to evaluated cases."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pipeline import cache, paths
from pipeline.__main__ import main
from pipeline.commands.running import training_of
from pipeline.metrics.calibrators import fitting
from pipeline.stages.adapt import adapting
from tests.stages.running import computed, refusal, run
from tests.stages.stored import change_channels, white

WITHOUT_LABELS = ("simclr", "vicreg", "byol", "masked")
ALIGNMENT_LOSSES = ("coral", "mmd", "dann", "mcc")
FITTED = ("adabn", "adabn_per_site", "nyul", "histogram", "combat")
CANDIDATES = ["adabn", "nyul", "combat", "coral", "simclr"]


def trained(fold="0"):
    run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    return paths.adapted_encoder(fold).read_bytes(), paths.model(fold).read_bytes()


def artefacts(fold="0"):
    """Whatever adaptation fitted: the encoder, what differs between sites, and the record with its scales."""
    record = paths.read_json(paths.adaptation(fold))
    return paths.adapted_encoder(fold).read_bytes(), paths.adapted_sites(fold).read_bytes(), record


def plant_markers(*roles, fold="0"):
    """Paint every image white whose role in the fold is one of these."""
    table = pd.read_csv(paths.split(fold))
    change_channels(table.loc[table["role"].isin(roles), "case"], white)


@pytest.mark.parametrize("method", [*FITTED, *WITHOUT_LABELS, *ALIGNMENT_LOSSES])
def test_every_method_at_strength_zero_is_no_adaptation_to_the_bit(sites, method):
    sites(adapt__method="none")
    run("cohort", "preprocess", "split")
    before = trained()
    sites(adapt__method=method, adapt__strength=0.0)
    assert trained() == before


@pytest.mark.parametrize("method", WITHOUT_LABELS)
def test_pretraining_is_deterministic_and_ignores_the_evaluated_cases(sites, method):
    sites(adapt__method=method, adapt__learning_rate=0.01, adapt__epochs=2)
    run("cohort", "preprocess", "split", "adapt --fold 0")
    record, before = paths.read_json(paths.adaptation("0")), paths.adapted_encoder("0").read_bytes()
    assert record["curve"][0]["epoch"] == 0 and len(record["curve"]) > 1
    plant_markers("held_out", "test", "validation")
    run("adapt --fold 0")
    assert paths.adapted_encoder("0").read_bytes() == before
    assert not list((paths.SCRATCH / "adapt").iterdir())


def stopped_key(monkeypatch):
    """Stop adaptation after its first epoch; give the key of the checkpoint that it leaves, and take that away."""
    with monkeypatch.context() as cut_off:
        cut_off.setattr(adapting, "log_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main(["adapt", "--fold", "0"])
    [file] = (paths.SCRATCH / "adapt").rglob("*.pt")
    key = torch.load(file, weights_only=True)["key"]
    shutil.rmtree(paths.SCRATCH / "adapt")
    return key


@pytest.mark.parametrize("change", ["batch_size", "stage", "shared code", "method's code", "seed", "torch", "index"])
def test_checkpoint_depends_on_settings_code_versions_and_files(sites, code, monkeypatch, change):
    settings = dict(adapt__method="simclr", adapt__epochs=2)
    sites(**settings)
    run("cohort", "preprocess", "split")
    key = stopped_key(monkeypatch)
    assert stopped_key(monkeypatch) == key
    files = {"stage": "stages/adapt/run.py", "shared code": "stages/adapt/setup.py"}
    files |= {"method's code": "stages/adapt/methods/simclr.py"}
    if change in files:
        with (code / "pipeline" / files[change]).open("a") as source:
            source.write("# changed\n")
        cache.code_of.cache_clear()
    elif change == "index":
        table = pd.read_csv(paths.INDEX)
        table.assign(voxel_hash="other").to_csv(paths.INDEX, index=False)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "0.0")
    elif change == "seed":
        written = yaml.safe_load(Path("params.yaml").read_text())
        Path("params.yaml").write_text(yaml.safe_dump(written | {"seed": 1}))
    else:
        sites(**settings, adapt__batch_size=31)  # as many batches as before, on so few cases
    assert stopped_key(monkeypatch) != key


def test_stopped_adaptation_reports_progress_and_resumes_to_the_same_bits(sites, monkeypatch):
    sites(adapt__method="simclr", adapt__epochs=3, adapt__patience=3)
    run("cohort", "preprocess", "split", "adapt --fold 0")
    straight = artefacts()

    def stop(_, epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as cut_off:
        cut_off.setattr(adapting, "log_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            main(["adapt", "--fold", "0"])
    assert training_of("adapt", "0").startswith("pretraining, epoch 2, ")
    run("adapt --fold 0")
    assert artefacts() == straight and training_of("adapt", "0") == ""


@pytest.mark.parametrize("method", ALIGNMENT_LOSSES)
def test_alignment_loss_changes_the_training_and_not_the_encoder_before(sites, method):
    changes = dict(finetune__epochs=3, finetune__learning_rate=0.003, finetune__patience=3)
    sites(adapt__method="none", **changes)
    run("cohort", "preprocess", "split")
    encoder, model = trained()
    sites(adapt__method=method, adapt__strength=1.0, **changes)
    assert trained()[0] == encoder  # nothing of the encoder changes before fine-tuning
    curve = pd.read_csv(paths.history("0"))
    sites(adapt__method="none", **changes)
    assert trained() == (encoder, model)
    assert not curve.equals(pd.read_csv(paths.history("0")))


def test_alignment_loss_sees_no_evaluated_case_unless_target_is_evaluated(sites):
    changes = dict(adapt__method="coral", adapt__strength=50.0, finetune__epochs=2, finetune__learning_rate=0.003)
    sites(**changes)
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    before = paths.history("0").read_bytes()
    plant_markers("held_out", "test")
    run("finetune --fold 0")
    assert paths.history("0").read_bytes() == before
    sites(**changes, adapt__target="evaluated")
    run("adapt --fold 0", "finetune --fold 0")
    assert paths.history("0").read_bytes() != before
    assert paths.read_json(paths.adaptation("0"))["evaluated_seen"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapt__method": "simclr", "adapt__strength": 2.0}, "must be from 0 to 1"),
        ({"adapt__method": "coral", "adapt__target": "none"}, "set adapt.target to unlabelled"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(sites, capsys, change, said):
    sites(**change)
    assert said in refusal(capsys, "adapt --fold 0")


def test_alignment_loss_without_unlabelled_cases_is_refused(project, capsys):
    project(adapt__method="mmd")
    run("cohort", "preprocess", "split", "adapt --fold 0")
    assert "mark cases as unlabelled" in refusal(capsys, "finetune --fold 0")


@pytest.mark.parametrize("method", [*FITTED, "auto"])
def test_a_marker_in_every_evaluated_image_changes_nothing_that_is_fitted(sites, method):
    sites(adapt__method=method, adapt__candidates=CANDIDATES)
    run("cohort", "preprocess", "split", "adapt --fold 0")
    before = artefacts()
    plant_markers("held_out", "test", "validation")
    run("adapt --fold 0")
    assert artefacts() == before
    if method != "auto":  # which may well choose to change nothing
        table = pd.read_csv(paths.split("0"))
        change_channels(table.loc[table["role"] == "train", "case"], lambda channels: channels // 2)
        run("adapt --fold 0")
        assert artefacts() != before


def test_search_compares_all_candidates_and_each_predicts_every_case(sites):
    sites(adapt__method="auto", adapt__candidates=CANDIDATES)
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    record = paths.read_json(paths.adaptation("0"))
    steps = record["search"]
    assert [step["method"] for step in steps] == ["none", *CANDIDATES]
    assert record["asked"] == "auto" and record["method"] == [step["method"] for step in steps if step["kept"]][-1]
    assert all(step["why"].startswith("skipped") or step["source_loss"] > 0 for step in steps)
    table = pd.read_csv(paths.search("0"))
    evaluated = pd.read_csv(paths.split("0")).query("role in ['held_out', 'test']")
    measured = [step["method"] for step in steps if not step["why"].startswith("skipped")]
    assert len(measured) >= 4
    for candidate in measured:
        assert sorted(table.loc[table["candidate"] == candidate, "case"]) == sorted(evaluated["case"])
    assert table.filter(like="logit_").notna().all(axis=None)
    assert paths.predictions("0").exists()


def test_without_a_target_the_search_looks_at_the_source_alone(sites):
    sites(adapt__method="auto", adapt__candidates=["adabn", "coral"], adapt__target="none")
    run("cohort", "preprocess", "split", "adapt --fold final")
    _, adabn, coral = paths.read_json(paths.adaptation("final"))["search"]
    assert adabn["information_maximisation"] is None and "no target images" in adabn["why"]
    assert "needs unlabelled cases" in coral["why"] and not coral["kept"]


@pytest.mark.parametrize(
    ("change", "site"),
    [
        ({"adapt__method": "adabn_per_site"}, "outside"),
        ({"adapt__method": "combat", "adapt__strength": 1.0}, "outside"),
        ({"adapt__method": "nyul"}, None),
        ({"adapt__method": "none", "adapt__test_time_steps": 2, "adapt__test_time_rate": 0.05}, None),
    ],
)
def test_released_model_holds_all_that_adaptation_added_to_the_encoder(sites, change, site, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "LIMITS", (1.0, 100.0))  # so easy a task would make every probability 1
    settled = {"finetune__strategy": "probe", "calibrate__method": "temperature"}  # votes hide a change
    root = sites(**settled, **change)
    run(
        "cohort",
        "preprocess",
        "split",
        *(f"{stage} --fold {fold}" for fold in "012" for stage in ("adapt", "finetune")),
    )
    run("adapt --fold final", "finetune --fold final", "calibrate", "release")
    evaluated = pd.read_csv(paths.PREDICTIONS).query("scope == 'external'").set_index("case")["probability_1"]
    scans = [f"data/raw/clinic/{name}" for name in names_of(capsys, evaluated.index)]

    def predicted(*options):
        bundle = str(paths.bundle("ill_or_well"))
        assert main(["predict", bundle, *scans, "--out", "out.csv", *options]) == 0
        return computed(root / "out.csv")

    assert np.allclose(predicted(*(["--site", site] if site else [])), evaluated, atol=1e-5)
    if site:
        assert not np.allclose(predicted(), evaluated, atol=1e-5)
        assert main(["predict", str(paths.bundle("ill_or_well")), scans[0], "--site", "moon"]) == 1
        assert "the model does not know 'moon'" in capsys.readouterr().err


def names_of(capsys, cases):
    """Ask for the names of the files behind pseudonyms."""
    capsys.readouterr()
    run("whois " + " ".join(cases))
    return [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.strip().splitlines()]


def test_a_search_without_a_first_candidate_is_refused_with_the_reason(sites, capsys):
    sites(adapt__method="auto")
    run("cohort", "preprocess", "split")
    split = pd.read_csv(paths.split("0"), keep_default_na=False)
    ill = split.index[(split["label"] == "ill") & (split["role"] == "train")]
    split.loc[ill[1:], "role"] = "excluded"
    split.to_csv(paths.split("0"), index=False)
    assert "fewer than two patients" in refusal(capsys, "adapt --fold 0")
