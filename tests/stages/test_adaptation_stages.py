"""adapt and finetune with every method: nothing at strength 0, nothing of what is judged, no site without another."""

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from tests.stages.test_stages import refusal, run

WITHOUT_LABELS = ("simclr", "vicreg", "byol", "masked")
TERMS = ("coral", "mmd", "dann", "mcc")


@pytest.fixture
def sites(project):
    """A cohort of which every other patient of the outer site is there without a label."""

    def write(**changes):
        short = dict(adapt__epochs=1, adapt__batch_size=8, adapt__strength=0.5)
        root = project(**(short | changes))
        table = pd.read_csv(root / "data/raw/clinic/cohort.csv", keep_default_na=False)
        number = table["patient_id"].str.split().str[-1].astype(int)
        unlabelled = (table["site"] == "outside") & (number % 2 == 0)
        table.loc[unlabelled, ["label", "split"]] = ["", "unlabelled"]
        table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
        return root

    return write


def trained(fold="0"):
    run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    return paths.adapted_encoder(fold).read_bytes(), paths.model(fold).read_bytes()


@pytest.mark.parametrize("method", ["adabn", *WITHOUT_LABELS, *TERMS])
def test_every_method_at_strength_zero_is_no_adaptation_to_the_bit(sites, method):
    sites(adapt__method="none")
    run("cohort", "preprocess", "split")
    before = trained()
    sites(adapt__method=method, adapt__strength=0.0)
    assert trained() == before


@pytest.mark.parametrize("method", WITHOUT_LABELS)
def test_learning_without_labels_moves_the_encoder_the_same_way_twice_and_never_by_what_is_judged(sites, method):
    sites(adapt__method=method, adapt__learning_rate=0.01, adapt__epochs=2)
    run("cohort", "preprocess", "split", "adapt --fold 0")
    record, before = paths.read_json(paths.adaptation("0")), paths.adapted_encoder("0").read_bytes()
    assert record["curve"][0]["epoch"] == 0 and len(record["curve"]) > 1
    table = pd.read_csv(paths.split("0"))
    for case in table.loc[table["role"].isin(["held_out", "locked", "inner"]), "case"]:
        np.save(paths.prepared_case(case), np.full_like(np.load(paths.prepared_case(case)), 255))
    run("adapt --fold 0")
    assert paths.adapted_encoder("0").read_bytes() == before
    assert not list((paths.SCRATCH / "adapt").glob("*.pt"))


@pytest.mark.parametrize("method", TERMS)
def test_a_term_changes_the_training_by_the_unlabelled_cases_alone(sites, method):
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


def test_a_term_never_sees_what_is_judged_unless_told_to(sites):
    changes = dict(adapt__method="coral", adapt__strength=50.0, finetune__epochs=2, finetune__learning_rate=0.003)
    sites(**changes)
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    before = paths.history("0").read_bytes()
    table = pd.read_csv(paths.split("0"))
    for case in table.loc[table["role"].isin(["held_out", "locked"]), "case"]:
        np.save(paths.prepared_case(case), np.full_like(np.load(paths.prepared_case(case)), 255))
    run("finetune --fold 0")
    assert paths.history("0").read_bytes() == before
    sites(**changes, adapt__target="judged")
    run("adapt --fold 0", "finetune --fold 0")
    assert paths.history("0").read_bytes() != before
    assert paths.read_json(paths.adaptation("0"))["judged_seen"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapt__method": "simclr", "adapt__strength": 2.0}, "share between 0 and 1"),
        ({"adapt__method": "coral", "adapt__target": "none"}, "needs an adapt.target"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(sites, capsys, change, said):
    sites(**change)
    assert said in refusal(capsys, "adapt --fold 0")


def test_a_term_without_unlabelled_cases_is_refused_with_the_cure(project, capsys):
    project(adapt__method="mmd")
    run("cohort", "preprocess", "split", "adapt --fold 0")
    assert "mark cases as unlabelled" in refusal(capsys, "finetune --fold 0")
