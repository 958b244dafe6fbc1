"""Values of the section finetune that are left to a preset."""

import pytest

from pipeline.schema import Finetune
from pipeline.stages.finetune.fold_data import full_recipe_of
from pipeline.stages.finetune.presets import FEW, PRESETS, augmentations_of, full_of, with_preset


@pytest.mark.parametrize("preset", PRESETS)
def test_auto_takes_the_value_of_the_preset_and_no_other_value_does(preset):
    found = full_of(Finetune(preset=preset, full={"epochs": 5}))
    assert found.epochs == 5 and found.model_dump() == found.model_dump() | PRESETS[preset] | {"epochs": 5}


def test_the_description_of_each_setting_names_the_values_of_the_presets():
    for name, field in type(Finetune().full).model_fields.items():
        for preset in PRESETS.values() if name in PRESETS["best"] else ():
            value = preset[name]
            assert str(list(value) if isinstance(value, tuple) else value) in field.description


def test_auto_chooses_the_preset_by_the_number_of_development_cases():
    chosen = {n: with_preset(Finetune(), n).preset for n in (FEW - 1, FEW)}
    assert chosen == {FEW - 1: "quick", FEW: "standard"}
    assert with_preset(Finetune(preset="best"), 1).preset == "best"
    assert str(FEW) in Finetune.model_fields["preset"].description


def test_an_epoch_on_few_cases_has_smaller_batches():
    settings = Finetune(preset="quick")
    assert [full_recipe_of(settings, n).batch_size for n in (9, 64, 1000)] == [2, 8, settings.batch_size]


@pytest.mark.parametrize(("strategy", "views"), [("portfolio", ("mirror",)), ("full", ("mirror",)), ("lp_ft", ())])
def test_auto_mirrors_only_what_trains_every_stage(strategy, views):
    assert augmentations_of(Finetune(strategy=strategy)) == views
    assert augmentations_of(Finetune(strategy=strategy, tta=["crops"])) == ("crops",)


@pytest.mark.parametrize(
    ("augmentation", "statistics", "of_views"),
    [("mild", "auto", False), ("strong", "auto", True), ("mild", "views", True), ("strong", "images", False)],
)
def test_strong_augmentation_ends_with_statistics_of_its_views(augmentation, statistics, of_views):
    settings = Finetune(preset="quick", full={"augmentation": augmentation, "statistics": statistics})
    assert full_recipe_of(settings, 100).statistics_of_views is of_views
