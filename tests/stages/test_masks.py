"""Masks beside the images, from the cohort to `predict`, `verify` and MONAI's `run`."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import SimpleITK
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle import Predictor
from tests.stages.conftest import lay_out
from tests.stages.running import FOLDS, assert_predicted_as_evaluated, computed, refusal, run
from tests.stages.stored import channels_of, prepared_bytes

RAW = "data/raw/clinic"
CLINIC = f"{RAW}/cohort.csv"
BUNDLE = "data/released/ill_or_well"


def add_masks(root, only=None):
    """Mark in each image a blob: large ones are ill; write masks of label 1, with a spot of label 2 beside it."""
    rng = np.random.default_rng(1)
    folder = root / RAW
    table = pd.read_csv(folder / "cohort.csv", dtype=str, keep_default_na=False)
    (folder / "masks").mkdir(exist_ok=True)
    names = []
    for row in table.to_dict("records"):
        labels = np.zeros((40, 48), dtype=np.uint8)
        size = int(rng.integers(8, 12) if row["label"] == "ill" else rng.integers(4, 9))
        top, left = rng.integers(2, 24, 2)
        labels[top : top + size, left : left + size] = 1
        labels[38, 46] = 2
        name = f"masks/{row['image'].removesuffix('.png')}_mask.png"
        Image.fromarray(labels).save(folder / name)
        names.append(name if only is None or row["label"] == only else "")
    table.assign(mask=names).to_csv(folder / "cohort.csv", index=False)


def until_released(write, **changes):
    write(cohort__mask_labels=[1], adapt__method="none", release__exports=["onnx"], **changes)
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate", "evidence", "explain", "release", "report")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Release a model that is cropped to masks, sees them as a channel, and takes features of them."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("masks") / "project"
        write = lay_out(root, patch)
        add_masks(root)
        until_released(
            write, preprocess__mask="both", preprocess__mask_margin_mm=3.0, cohort__inputs=["mask_area", "mask_mean"]
        )
        yield root


@pytest.fixture
def project(released, monkeypatch):
    monkeypatch.chdir(released)
    return released


def test_predict_gives_the_probability_that_was_evaluated(project):
    assert_predicted_as_evaluated(BUNDLE, CLINIC)


def test_masks_are_audited_and_measured_but_no_path_is_stored(project):
    cases, columns = paths.read_table(paths.CASES), paths.read_table(paths.COLUMNS)
    assert set(cases["mask"]) == {"given"} and "masks/" not in paths.CASES.read_text()
    assert {"mask_area", "mask_circularity", "mask_entropy", "column_mask_area", "column_mask_mean"} <= set(columns)
    area = {row["image"]: (np.asarray(Image.open(f"{RAW}/{row['mask']}")) == 1).sum() for row in table_of().values()}
    assert sorted(columns["mask_area"].astype(float)) == pytest.approx(sorted(one - 0.5 for one in area.values()))


def table_of():
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False)
    return {row["image"]: row for row in table.to_dict("records")}


def test_features_of_the_mask_are_a_baseline_but_few_are_subgroups(project):
    baselines = pd.read_csv(paths.assessed("baselines"))
    assert {"site", "mask_area, mask_mean", "features of the mask"} <= set(baselines["baseline"])
    assert set(pd.read_csv(paths.assessed("subgroups"))["column"]) == {"site", "mask_area"}


def test_masks_may_lie_in_a_folder_by_the_names_of_their_scans(project, tmp_path):
    for row in list(table_of().values())[:4]:
        shutil.copyfile(f"{RAW}/{row['image']}", tmp_path / row["image"])
    assert main(["predict", BUNDLE, str(tmp_path), "--masks", f"{RAW}/masks", "--out", "here.csv"]) == 0
    assert main(["predict", BUNDLE, CLINIC, "--out", "list.csv"]) == 0
    here = computed("here.csv")
    assert here.tolist() == computed("list.csv")[here.index].tolist()


def test_a_scan_without_a_mask_is_refused_before_any_is_read(project, capsys, tmp_path):
    scan = next(iter(table_of()))
    assert main(["predict", BUNDLE, f"{RAW}/{scan}"]) == 1
    said = capsys.readouterr().err
    assert "takes a mask of each scan" in said and f"there is none of {scan}; give --masks FOLDER" in said
    assert main(["predict", BUNDLE, f"{RAW}/{scan}", "--masks", str(tmp_path / "none")]) == 1
    assert "is no folder of masks" in capsys.readouterr().err


def test_a_mask_that_cannot_be_used_is_a_reason_for_one_scan_alone(project, tmp_path, capsys):
    first, second, third = list(table_of())[:3]
    for name in (first, second, third):
        shutil.copyfile(f"{RAW}/{name}", tmp_path / name)
    masks = tmp_path / "masks"
    masks.mkdir()
    shutil.copyfile(f"{RAW}/{table_of()[first]['mask']}", masks / first)
    Image.fromarray(np.ones((10, 10), dtype=np.uint8)).save(masks / second)
    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save(masks / third)
    scans = [str(tmp_path / name) for name in (first, second, third)]
    assert main(["predict", BUNDLE, *scans, "--masks", str(masks), "--out", "some.csv"]) == 0
    found = pd.read_csv("some.csv", keep_default_na=False).set_index("scan")
    assert found.loc[first, "abstains"] != "bad image"
    assert "the mask has 10 x 10 pixels, but the scan has 40 x 48" in found.loc[second, "reason"]
    assert "mask" in found.loc[third, "reason"] and found.loc[third, "abstains"] == "bad image"


def test_the_python_api_takes_a_mask(project):
    predictor, (name, row) = Predictor.from_bundle(BUNDLE), next(iter(table_of().items()))
    found = predictor(f"{RAW}/{name}", mask=Path(f"{RAW}/{row['mask']}"))
    channels = found.output.prepared.channels
    assert channels.shape == (2, 32, 32) and set(np.unique(channels[1])) == {0, 255}
    assert predictor(f"{RAW}/{name}").abstains == ("bad image",)


def test_a_mask_in_millimetres_is_no_input_of_a_model_that_learned_pixels(project, tmp_path):
    predictor, (name, row) = Predictor.from_bundle(BUNDLE), next(iter(table_of().items()))
    assert predictor.masks.unit == "pixels" and paths.read_json(paths.INPUTS)[0]["unit"] == "pixels"
    sized = with_pixel_size(f"{RAW}/{name}", tmp_path / "sized.mha", 0.5)
    found = predictor(sized, mask=Path(f"{RAW}/{row['mask']}"))
    assert found.abstains == ("bad image",) and found.withheld_probabilities is None
    assert "measured in mm, those of the development cases in pixels; give images like those" in found.reason


@pytest.mark.parametrize(
    "command",
    [
        ["serve", BUNDLE],
        ["listen", BUNDLE, "--watch", "in", "--results", "objects", "--ledger", "kept"],
        ["package", BUNDLE, "--map", "map"],
    ],
)
def test_commands_that_read_scans_alone_refuse_the_model(project, capsys, command):
    (project / "in").mkdir(exist_ok=True)
    assert main(command) == 1
    said = capsys.readouterr().err
    assert (
        "the scan is cropped to the mask, and the network sees the mask as a channel, and mask_area, mask_mean" in said
    )
    assert "use `medadapt predict BUNDLE SCANS --masks FOLDER`" in said


def test_verify_monai_and_onnx_runtime_run_the_bundle(project, tmp_path, capsys):
    assert main(["verify", BUNDLE]) == 0
    assert "passed: predictions" in capsys.readouterr().out
    (tmp_path / "input").mkdir()
    for name in list(table_of())[:3]:
        shutil.copyfile(f"{RAW}/{name}", tmp_path / "input" / name)
    parser = ConfigParser()
    parser.read_config(f"{BUNDLE}/configs/inference.json")
    parser["dataset_dir"], parser["masks_dir"] = str(tmp_path / "input"), f"{RAW}/masks"
    data = parser.get_parsed_content("dataset")
    metadata = json.loads(Path(f"{BUNDLE}/configs/metadata.json").read_text())
    assert metadata["preparation_parity"] == {"cases": 20, "absent": 0, "largest_difference": 0}
    assert metadata["masks"]["use"] == "both" and metadata["masks"]["features"] == ["mask_area", "mask_mean"]
    card = Path(f"{BUNDLE}/docs/README.md").read_text()
    assert (
        "**Besides the scan the model takes its mask**: the scan is cropped to the mask, and the network sees" in card
    )
    session, predictor = onnxruntime.InferenceSession(f"{BUNDLE}/models/model.onnx"), Predictor.from_bundle(BUNDLE)
    for one in data:
        image = Path(one["filename_or_obj"]).name
        own = predictor(f"{RAW}/{image}", mask=Path(f"{RAW}/{table_of()[image]['mask']}"))
        assert np.array_equal(one["image"].numpy(), own.output.prepared.channels)
        _, logits = session.run(None, {session.get_inputs()[0].name: one["image"].numpy()[None]})
        assert logits[0] == pytest.approx(own.output.logits, abs=1e-5)


def test_monitor_follows_the_predictions_of_such_a_model(project):
    assert main(["predict", BUNDLE, CLINIC, "--out", "used.csv"]) == 0
    table = pd.read_csv(CLINIC).rename(columns={"image": "scan"})[["scan", "label"]]
    table.to_csv("labels.csv", index=False)
    assert main(["monitor", BUNDLE, "used.csv", "labels.csv"]) in (0, 3)


def test_report_and_saliency_tell_of_the_masks(project):
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", paths.REPORT.read_text())).split())
    assert "Masks: 15 of 15 cases of well have one; median size" in page or "cases of well have one; median" in page
    mistakes = paths.read_table(paths.MISTAKES)
    assert {"inside", "region"} <= set(mistakes)
    share = pd.to_numeric(mistakes["inside"], errors="coerce").dropna()
    assert share.between(0, 1).all()
    if len(share):
        assert "of the saliency of" in page and "lies inside of the mask, which fills" in page


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    """Lay out a project with masks; returns its folder and the function that writes params.yaml."""
    root = tmp_path / "project"
    write = lay_out(root, monkeypatch)
    add_masks(root)
    return root, write


def change(root, **cells):
    table = pd.read_csv(root / CLINIC, dtype=str, keep_default_na=False)
    for name, values in cells.items():
        table[name] = table.get(name, "")
        table.loc[list(values), name] = list(values.values())
    table.to_csv(root / CLINIC, index=False)
    return table


def with_pixel_size(image, file, millimetres):
    """Write a PNG in a format that states the size of its pixels."""
    sized = SimpleITK.GetImageFromArray(np.asarray(Image.open(image)))
    sized.SetSpacing([millimetres, millimetres])
    SimpleITK.WriteImage(sized, str(file))
    return file


def test_areas_in_mm_and_in_pixels_are_told_and_are_no_input_together(clinic, capsys, caplog):
    root, write = clinic
    named = change(root)["image"].tolist()
    for name in named[:4]:
        with_pixel_size(root / RAW / name, root / RAW / f"{name}.mha", 0.5)
    run("cohort")
    before, area = caplog.text, paths.read_table(paths.COLUMNS)["mask_area"]
    assert {row["unit"] for row in paths.read_json(paths.COHORT_FACTS)["masks"]} == {"pixels"}
    change(root, image={number: f"{named[number]}.mha" for number in range(4)})
    run("cohort")
    said, mixed = "some images with masks state the size of their pixels and others do not", paths.COHORT_FACTS
    assert said in caplog.text and said not in before
    assert {(row["unit"], len(row["size"])) for row in paths.read_json(mixed)["masks"]} == {("mm² or pixels", 0)}
    scaled = paths.read_table(paths.COLUMNS)["mask_area"].astype(float) / area.astype(float)
    np.testing.assert_allclose(sorted(scaled), [0.25] * 4 + [1] * 26)
    for asked in (["mask_area"], ["mask_features"]):
        write(cohort__inputs=asked)
        message = refusal(capsys, "cohort")
        assert "cohort.csv: cohort.inputs names 'mask_area', but some images state" in message
        assert "such as row 5, do not, so that it would be in mm of some and in pixels of others; give all" in message
    write(cohort__inputs=["mask_mean", "mask_circularity"])
    run("cohort")
    assert all("unit" not in column for column in paths.read_json(paths.INPUTS))


def test_faulty_masks_are_refused_and_told_case_by_case(clinic, capsys):
    root, _ = clinic
    masks = root / RAW / "masks"
    Image.fromarray(np.zeros((7, 7), dtype=np.uint8)).save(masks / "small.png")
    Image.fromarray(np.zeros((40, 48, 3), dtype=np.uint8) + np.arange(3, dtype=np.uint8)).save(masks / "colour.png")
    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save(masks / "empty.png")
    (masks / "broken.png").write_bytes(b"\x89PNG no")
    names = ["small", "colour", "empty", "broken", "absent"]
    change(root, mask={number: f"masks/{name}.png" for number, name in enumerate(names)} | {5: "", 6: "/etc/passwd"})
    run("cohort")
    said = capsys.readouterr().out
    assert "refused   1  mask of another scan: the mask has 7 x 7 pixels, but the scan has 40 x 48" in said
    assert "its channels differ, so that it holds colours" in said and "mask unreadable" in said
    assert "mask missing: the file does not exist" in said
    assert "mask outside: it lies outside of the cohort's folder" in said
    assert "warned    1  mask empty: no voxel of the scan has a label but 0: it counts as no mask" in said
    cases = paths.read_table(paths.CASES)
    assert len(cases) == 25 and sorted(set(cases["mask"])) == ["", "empty", "given"]
    found = paths.read_table(paths.AUDIT)
    assert "/etc" not in paths.AUDIT.read_text() and {"mask of another scan", "mask empty"} <= set(found["check"])


def test_cases_without_masks_are_refused_or_taken_as_a_whole(clinic, capsys):
    root, write = clinic
    change(root, mask={0: "", 1: ""})
    write(preprocess__mask="both")
    run("cohort")
    said = refusal(capsys, "preprocess")
    assert "preprocess.mask is both, but 2 of 30 cases have no mask (0 of these an empty one), e.g. case-" in said
    assert "set preprocess.mask_missing to whole" in said
    write(preprocess__mask_missing="whole")
    run("preprocess")
    without = paths.read_table(paths.CASES).query("mask == ''")["case"]
    assert all((channels_of(case)[1] == 255).sum() == 32 * round(40 / 48 * 32) for case in without)


def test_masks_of_one_class_alone_are_told_to_tell_the_label(tmp_path, monkeypatch, caplog):
    root = tmp_path / "project"
    lay_out(root, monkeypatch)
    add_masks(root, only="ill")
    run("cohort")
    assert "100% of the cases of 'ill' have a mask, but 0% of 'well'" in caplog.text


def test_a_mask_is_asked_for_where_there_is_none(tmp_path, monkeypatch, capsys):
    write = lay_out(tmp_path / "project", monkeypatch)
    write(preprocess__mask="crop")
    run("cohort")
    assert "preprocess.mask is crop, but no case has a mask; write the paths" in refusal(capsys, "preprocess")
    write(preprocess__mask="none", cohort__inputs=["mask_area"])
    assert "cohort.inputs names 'mask_area', but there is no such column" in refusal(capsys, "cohort")


def test_a_feature_of_volumes_is_refused_for_images(clinic, capsys):
    _, write = clinic
    write(cohort__inputs=["mask_volume"])
    assert "cohort.inputs names 'mask_volume'; the masks have mask_area, mask_perimeter" in refusal(capsys, "cohort")


def test_a_feature_is_a_number_and_no_column_has_its_name(clinic, capsys):
    root, write = clinic
    write(cohort__inputs=[{"mask_area": "categorical"}])
    assert "cohort.inputs gives 'mask_area' categories, but it is a number" in refusal(capsys, "cohort")
    write(cohort__inputs=[])
    change(root, mask_area={0: "7"})
    assert "the column 'mask_area' has the name of a feature" in refusal(capsys, "cohort")


def cases_in(content):
    return {name: one for name, one in content.items() if name.startswith("cases/")}


def test_without_a_use_masks_change_no_prepared_case(clinic):
    root, _ = clinic
    run("cohort", "preprocess")
    used = cases_in(prepared_bytes())
    geometry, index = paths.GEOMETRY.read_bytes(), paths.INDEX.read_bytes()
    pd.read_csv(root / CLINIC, dtype=str).drop(columns="mask").to_csv(root / CLINIC, index=False)
    run("cohort", "preprocess")
    assert cases_in(prepared_bytes()) == used
    assert (paths.GEOMETRY.read_bytes(), paths.INDEX.read_bytes()) == (geometry, index)
    assert "mask" not in paths.CASES.read_text() + paths.READING.read_text() + paths.COHORT_FACTS.read_text()
    assert not paths.PREPARED_MASKS.exists()


def recipe(masks):
    """Describe a small cohort of coarse heads at two sites."""
    site = {"voxel_mm": [6.0, 6.0, 8.0], "tilt_deg": 5, "csf": 0.3, "grey": 0.7, "white": 1.0, "scalp": 0.8}
    site |= {"bias": 0.1, "noise": 0.02, "full_scale": 1000, "dtype": "int16", "lesion_share": 0.5}
    return {
        "seed": 3,
        "classes": ["control", "lesion"],
        "lesions": [3, 5],
        "radius_mm": [12.0, 18.0],
        "darkness": [0.6, 0.8],
        "second_scan": 0.2,
        "age_years": [[50, 10], [50, 10]],
        "masks": masks,
        "sites": {
            "north": site | {"patients": {"development": 12}, "orientation": "RAS"},
            "south": site | {"patients": {"development": 6, "test": 6}, "orientation": "LPS", "voxel_mm": [5, 5, 9]},
        },
    }


def simulated(root, write, masks, **changes):
    folder = root / "data/raw/heads"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(masks)))
    write(
        cohort__path="data/raw/heads",
        cohort__classes=["control", "lesion"],
        cohort__positive="lesion",
        preprocess__slices=4,
        adapt__method="none",
        **changes,
    )


def test_simulated_lesions_are_cropped_and_their_values_tell_the_class(tmp_path, monkeypatch):
    root = tmp_path / "project"
    write = lay_out(root, monkeypatch)
    simulated(root, write, "places", preprocess__mask="crop", cohort__inputs=["mask_p10"])
    run("cohort", "preprocess", "split")
    cases = paths.read_table(paths.CASES)
    assert set(cases["mask"]) == {"given"}
    columns = paths.read_table(paths.COLUMNS).set_index("case")
    volume = columns["mask_volume"].astype(float)
    assert volume.between(5e3, 4e5).all()  # three to five ellipsoids with radii of 8 to 23 mm
    geometry = json.loads(paths.GEOMETRY.read_text())
    assert geometry["spacing"][0] * geometry["image_size"] < 216  # closer than the whole head
    for fold in FOLDS:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate")
    rows = pd.read_csv(paths.assessed("increment")).query("scope == 'internal'")
    own = rows[rows["over"].isna()].set_index("prediction")["auc"]
    assert own["columns"] > 0.9  # dark places have low percentiles
    baselines = pd.read_csv(paths.assessed("baselines"))
    assert "features of the mask" in set(baselines["baseline"])
