"""Values of the section finetune that are left to a preset."""

import pytest

from pipeline.schema import Finetune
from pipeline.stages.finetune.presets import PRESETS, augmentations_of, full_of


@pytest.mark.parametrize("preset", PRESETS)
def test_auto_takes_the_value_of_the_preset_and_no_other_value_does(preset):
    found = full_of(Finetune(preset=preset, full={"epochs": 5}))
    assert found.epochs == 5 and found.model_dump() == found.model_dump() | PRESETS[preset] | {"epochs": 5}


def test_the_description_of_each_setting_names_the_values_of_the_presets():
    for name, field in type(Finetune().full).model_fields.items():
        for preset in PRESETS.values() if name in PRESETS["best"] else ():
            value = preset[name]
            assert str(list(value) if isinstance(value, tuple) else value) in field.description


@pytest.mark.parametrize(("strategy", "views"), [("portfolio", ("mirror",)), ("full", ("mirror",)), ("lp_ft", ())])
def test_auto_mirrors_only_what_trains_every_stage(strategy, views):
    assert augmentations_of(Finetune(strategy=strategy)) == views
    assert augmentations_of(Finetune(strategy=strategy, tta=["crops"])) == ("crops",)
