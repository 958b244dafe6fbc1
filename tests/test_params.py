import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pipeline import params
from pipeline.errors import UserError
from pipeline.schema import OF_COHORT
from pipeline.schema.reference import annotated, reference_page
from pipeline.seeds import seed_for
from pipeline.yaml_files import declared_sections
from tests.conftest import ROOT

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())


def written(tmp_path, **changes):
    values = yaml.safe_load(yaml.safe_dump(RAW))
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
    (tmp_path / "data").symlink_to(ROOT / "data")  # the cohort.yaml of the demo
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'finetune.epocs'; the nearest known one is 'finetune.epochs'"):
        params.load(written(tmp_path, finetune__epocs=3))


def test_an_unknown_section_is_refused_with_the_nearest_known_one(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'calibrat'; the nearest known one is 'calibrate'"):
        params.load(written(tmp_path, calibrat={}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"finetune__learning_rate": -1}, "finetune.learning_rate"),
        ({"split__folds": [0, 7]}, "split.folds names '7'"),
        ({"split__folds": [0, 0]}, "names a fold twice"),
        ({"split__test_sites": []}, "split.test_sites is empty"),
        ({"split__folds": [0, "r2-5"]}, "split.folds names 'r2-5'"),
        ({"cohort__positive": "tumour"}, "cohort.positive is 'tumour'"),
        ({"cohort__task": "ordinal", "cohort__classes": []}, "cohort.classes must name the grades"),
        ({"cohort__task": "ordinal"}, "cohort.positive is 'lesion', but ordinal has no such class; set it to null"),
        ({"cohort__task": "multi"}, "cohort.task"),
        ({"preprocess__image_size": 100}, "preprocess.image_size"),
        ({"seed": "x"}, "seed"),
        ({"adapt__filter_depth": 2}, "needs a middle slice"),
        ({"adapt__candidates": ["adabn", "adabn"]}, "names a method twice"),
        ({"adapt__candidates": ["none"]}, "every search begins"),
        ({"adapt__filter_depth": 3, "adapt__method": "masked"}, "masked paints images over"),
        ({"adapt__target": "evaluated", "split__folds": [0, 1, "blind-ridge"]}, "names a blind- fold"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        params.load(written(tmp_path, **change))


def test_a_stage_is_handed_single_keys_of_a_section_and_no_other(tmp_path):
    finetune = params.for_stage("adapt", ROOT / "params.yaml", ROOT / "dvc.yaml").finetune
    assert finetune.pooled_stages == 4 and finetune.class_weights == "balanced"
    with pytest.raises(AttributeError, match="epochs"):
        _ = finetune.epochs


@pytest.mark.parametrize("text", ["cohort: {path: mine}\n", "cohort:\n  path: mine\nsplit:\nadapt: {}\n"])
def test_a_params_file_may_hold_the_path_alone(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cohort.yaml").write_text("split: {test: none}\n")
    loaded = params.load(file)
    assert (loaded.split.test, loaded.split.n_folds, loaded.release.name) == ("none", 5, "mine")
    assert loaded.adapt == params.load(ROOT / "params.yaml").adapt
    assert params.for_stage("adapt", file, ROOT / "dvc.yaml").finetune.pooled_stages == loaded.finetune.pooled_stages


def test_keys_that_dvc_wants_are_told_with_their_defaults(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("cohort: {path: mine}\nsplit: {n_folds: 3, folds: [final]}\n")
    missing = params.missing_for_dvc(file, ROOT / "dvc.yaml")
    assert (missing["seed"], missing["adapt"], "split" in missing) == (0, {}, False)
    assert missing["calibrate"] == {"baseline": "auto", "subgroups": "auto"}
    assert params.missing_for_dvc(ROOT / "params.yaml", ROOT / "dvc.yaml") == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"finetune__strategy": "prob"},
            "params.yaml: finetune.strategy is 'prob'; choose one of 'auto', .*, 'full'; the nearest is 'probe'$",
        ),
        (
            {"preprocess__image_size": 100},
            "params.yaml: preprocess.image_size is 100; choose one of 'auto', or a multiple of 16$",
        ),
        (
            {"cohort__reading": {"frames": "last"}},
            "cohort.reading.frames is 'last'; choose one of 'refuse', 'first', 'm",
        ),
        (
            {"adapt__candidates": ["none", "adabm"]},
            "candidates.1 is 'adabm'; choose one of .*nearest is 'adabn'$",
        ),
        ({"split__folds": "0"}, r"split.folds: Input should be a valid tuple$"),
        ({"cohort": {}}, "cohort.path is missing; name the folder of your cohort$"),
    ],
)
def test_alternatives_of_a_value_are_one_line_with_the_nearest(tmp_path, change, said):
    with pytest.raises(UserError, match=said) as refused:
        params.load(written(tmp_path, **change))
    assert str(refused.value).count("\n") == 0


def test_a_missing_file_names_the_cure(tmp_path):
    with pytest.raises(UserError, match="top folder"):
        params.load(tmp_path / "params.yaml")


def test_a_stage_cannot_read_a_section_that_it_did_not_declare():
    handed = params.for_stage("split", ROOT / "params.yaml", ROOT / "dvc.yaml")
    assert handed.split.n_folds == 5
    with pytest.raises(AttributeError, match="finetune"):
        _ = handed.finetune


def test_params_cannot_be_changed_by_a_stage():
    with pytest.raises(ValueError, match="frozen"):
        params.load(ROOT / "params.yaml").finetune.epochs = 1


def test_the_seed_of_a_thing_depends_on_its_name_and_on_nothing_else():
    assert seed_for(0, "view", "case-1", 3) == seed_for(0, "view", "case-1", 3)
    assert seed_for(0, "view", "case-1", 3) != seed_for(0, "view", "case-1", 4)
    assert seed_for(0, "view") != seed_for(1, "view")


OF_THE_DEMO = {  # set by data/demo/cohort.yaml; without its line in params.yaml, every other key has the same value
    *("cohort.path", "cohort.public", "cohort.classes", "cohort.positive", "split.test", "split.test_sites"),
    *("calibrate.test", "calibrate.subgroups", "calibrate.baseline"),
    *("release.name", "release.description", "report.title"),
}


def plain(value: Any) -> Any:
    """Turn tuples into lists."""
    return json.loads(json.dumps(value))


def changed_values(section: type[BaseModel], values: dict[str, Any], at: str) -> set[str]:
    """Names of values that are not the default of the schema."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= changed_values(field.annotation, values[name], f"{at}{name}.")
        elif field.is_required() or plain(field.default) != plain(values[name]):
            found.add(f"{at}{name}")
    return found


def test_params_file_holds_the_defaults_of_the_schema_but_for_the_demo() -> None:
    loaded = params.load(ROOT / "params.yaml").model_dump()
    assert changed_values(params.Params, loaded, "") == OF_THE_DEMO


def test_cohort_yaml_gives_the_values_of_the_demo() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert (loaded.cohort.public, loaded.cohort.positive, loaded.cohort.task) == (True, "lesion", "auto")
    assert loaded.cohort.classes == ("control", "lesion")
    assert (loaded.split.test, loaded.split.test_sites) == ("sites", ("harbour",))
    assert (loaded.calibrate.test, loaded.calibrate.subgroups) == ("open", ("sex", "age"))
    assert loaded.calibrate.baseline == ("age", "sex")
    assert loaded.release.name == "demo_lesion_classification"
    assert loaded.release.description == "Lesion or no lesion on simulated T1-weighted head MRI."
    assert loaded.report.title == "Lesion on simulated head MRI, three hospitals"


def test_params_yaml_overrides_cohort_yaml(tmp_path) -> None:
    loaded = params.load(written(tmp_path, cohort__public=False, split__test="none", report__title="Mine"))
    assert (loaded.cohort.public, loaded.split.test, loaded.report.title) == (False, "none", "Mine")
    assert loaded.split.test_sites == ("harbour",)


def test_without_cohort_yaml_auto_is_the_default_of_the_schema(tmp_path) -> None:
    loaded = params.load(written(tmp_path, cohort__path="elsewhere"))
    assert (loaded.cohort.public, loaded.cohort.classes, loaded.calibrate.test) == (False, (), "closed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("finetune: {epochs: 3}", "'finetune.epochs' cannot be set here, only in params.yaml; allowed: cohort.public"),
        ("cohort: {path: x}", "'cohort.path' cannot be set here"),
        ("cohort", "does not hold sections with keys"),
        ("cohort: {", "is not valid YAML"),
        ("split: {test: sometimes}", "cohort.yaml: split.test"),
        ("split: {test: sites}", "cohort.yaml: split: split.test is 'sites'"),
    ],
)
def test_a_bad_cohort_yaml_is_refused_by_its_name_and_key(tmp_path, text, said) -> None:
    file = written(tmp_path, cohort__path="mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cohort.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        params.load(file)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("data/raw/mine", "mine"),
        ("My clinic (2024)/", "My_clinic_2024"),
        ("--", "cohort_"),
        ("Klinik-Süd", "Klinik-S_d"),
    ],
)
def test_release_is_named_after_the_folder_of_the_cohort(tmp_path, folder, name) -> None:
    assert params.load(written(tmp_path, cohort__path=folder)).release.name.startswith(name)


@pytest.mark.parametrize(("section", "key"), [("release", "name"), ("release", "description"), ("report", "title")])
def test_text_of_the_demo_is_refused_for_another_cohort(tmp_path, section, key) -> None:
    text = yaml.safe_load((ROOT / "data/demo/cohort.yaml").read_text())[section][key]
    file = written(tmp_path, cohort__path="mine", **{f"{section}__{key}": text})
    with pytest.raises(UserError, match=rf"params.yaml: {section}.{key} is '{re.escape(text)}', the text of the demo"):
        params.load(file)


def test_text_of_the_demo_in_a_copied_cohort_yaml_is_refused(tmp_path) -> None:
    file = written(tmp_path, cohort__path="mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cohort.yaml").write_text((ROOT / "data/demo/cohort.yaml").read_text())
    with pytest.raises(UserError, match=r"mine/cohort.yaml: release.name is .*remove the line"):
        params.load(file)


def test_card_in_the_top_folder_is_refused_with_its_new_place(tmp_path) -> None:
    file = written(tmp_path, cohort__path="mine")
    (tmp_path / "card.yaml").write_text("ethics: Number 5.")
    with pytest.raises(UserError, match=r"card\.yaml is not read: .* move it to .*mine/card\.yaml$"):
        params.load(file)


@pytest.mark.parametrize("stage", list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]))
def test_a_stage_depends_on_the_settings_of_the_sections_that_it_declares(stage) -> None:
    """DVC watches params.yaml alone, so a value of cohort.yaml must come from a file that the stage depends on."""
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    names = [name.partition(".") for name in declared_sections(stage, ROOT / "dvc.yaml")]
    declared = {section for section, _, key in names if not key or key in OF_COHORT.get(section, ())}
    for section in declared & set(OF_COHORT) if stage != "cohort" else ():
        assert "data/cohort" in deps or f"data/cohort/settings/{section}.json" in deps


def test_comments_of_params_yaml_come_from_the_schema() -> None:
    """After a change of the schema: `python -m pipeline.schema.reference`."""
    assert (ROOT / "params.yaml").read_text() == annotated(RAW)


def test_reference_page_comes_from_the_schema() -> None:
    assert (ROOT / "docs" / "reference" / "params.md").read_text() == reference_page()


def settings_in(section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings_in(field.annotation)
        else:
            yield f"{section.__name__}.{name}", field.description or ""


def test_every_setting_is_explained_in_sentences() -> None:
    for name, explanation in settings_in(params.Params):
        assert explanation.endswith(".") and explanation[0] != " ", name
