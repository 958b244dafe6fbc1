"""No default and no list of names is declared twice, beside the schema and in the code that uses the setting."""

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest

from pipeline.imaging import geometry, labels
from pipeline.imaging.reading.scan import STRICT, Policy
from pipeline.learning.models import saliency, tasks, tta
from pipeline.learning.training import averaging, mixing
from pipeline.learning.training.alignment import losses
from pipeline.learning.training.recipe import Recipe
from pipeline.learning.training.strategies import PORTFOLIO, STRATEGIES
from pipeline.metrics.calibrators.calibrator import METHODS
from pipeline.schema import (
    ALIGNMENT_LOSSES,
    Adapt,
    Calibrate,
    Cohort,
    Explain,
    Finetune,
    Preprocess,
    Reading,
)
from pipeline.stages.adapt.catalogue import HARMONISERS, OBJECTIVES, PER_SITE
from pipeline.stages.adapt.pretraining import continued
from pipeline.stages.adapt.setup import SEEN
from pipeline.stages.calibrate import subject
from pipeline.stages.report import adaptation, calibrator


def names_in(annotation: Any) -> set[Any]:
    """Names that a type allows, of all Literals in it."""
    parts = get_args(annotation)
    return {part for part in parts if isinstance(part, str | int)} | {name for part in parts for name in names_in(part)}


def allowed(section: type, key: str) -> set[Any]:
    return names_in(section.model_fields[key].annotation) - {"auto"}


@pytest.mark.parametrize(
    ("section", "beside"),
    [(Finetune, Recipe), (Adapt, continued.Settings), (Calibrate, subject.Settings)],
    ids=["finetune", "adapt", "calibrate"],
)
def test_a_dataclass_repeats_names_of_its_section_but_no_default(section, beside):
    shared = [field for field in dataclasses.fields(beside) if field.name in section.model_fields]
    assert len(shared) > 4
    assert all(field.default is field.default_factory is dataclasses.MISSING for field in shared)


def test_the_defaults_of_reading_are_those_of_the_strict_policy():
    assert Policy(**Reading().model_dump()) == STRICT
    kinds = {name: field.annotation for name, field in Reading.model_fields.items()}
    for name, kind in get_type_hints(Policy).items():
        assert names_in(kinds[name]) == names_in(kind), name
    assert set(kinds) == set(get_type_hints(Policy))


@pytest.mark.parametrize(
    ("section", "key", "known"),
    [
        (Adapt, "method", {"none", "adabn", *PER_SITE, *HARMONISERS, *ALIGNMENT_LOSSES, *OBJECTIVES}),
        (Adapt, "method", set(adaptation.METHODS)),
        (Adapt, "target", set(SEEN)),
        (Calibrate, "method", {"none", *METHODS}),
        (Calibrate, "method", set(calibrator.MAPS)),
        (Cohort, "task", names_in(labels.Task)),
        (Explain, "method", names_in(saliency.Method)),
        (Finetune, "average", names_in(averaging.Averaging)),
        (Finetune, "class_weights", names_in(tasks.Balance)),
        (Finetune, "mix", names_in(mixing.Mixing)),
        (Finetune, "strategy", {*STRATEGIES, "portfolio", "distilled"}),
        (Finetune, "members", set(PORTFOLIO)),
        (Finetune, "tta", names_in(tta.View)),
        (Preprocess, "instances", names_in(geometry.Instances)),
        (Preprocess, "intensity", names_in(geometry.Intensity)),
        (Preprocess, "fit", names_in(get_type_hints(geometry.Geometry)["fit"])),
        (Preprocess, "crop", names_in(get_type_hints(geometry.Geometry)["crop"])),
    ],
)
def test_the_schema_allows_the_names_that_the_code_knows(section, key, known):
    assert allowed(section, key) == known


def test_alignment_losses_of_the_schema_are_those_that_can_be_built():
    assert set(ALIGNMENT_LOSSES) == set(losses.ALIGNMENT_LOSSES)
