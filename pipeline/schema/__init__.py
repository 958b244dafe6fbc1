"""Frozen schema of params.yaml: one class per section, and no key that the schema does not know.

Type, bounds, default and explanation of a setting are declared here and nowhere else. `python -m
pipeline.schema.reference` renders the comments of params.yaml and docs/reference/params.md from them.
"""

from pathlib import Path

from pydantic import Field, model_validator

from pipeline.schema.adapting import ALIGNMENT_LOSSES, Adapt
from pipeline.schema.data import Cohort, Preprocess, Reading, Split
from pipeline.schema.evaluation import Calibrate, Evidence, Explain
from pipeline.schema.finetuning import Finetune, Full
from pipeline.schema.release import Gates, Release, Report
from pipeline.schema.types import FINAL, Section
from pipeline.schema.without_classes import problem_without_classes

__all__ = [
    "ALIGNMENT_LOSSES",
    "FINAL",
    "OF_COHORT",
    "Adapt",
    "Calibrate",
    "Cohort",
    "Evidence",
    "Explain",
    "Finetune",
    "Full",
    "Gates",
    "Params",
    "Preprocess",
    "Reading",
    "Release",
    "Report",
    "Split",
]

# Keys that cohort.yaml may set; it counts where params.yaml leaves them out or says `auto`.
OF_COHORT = {
    "cohort": ("public", "task", "unit", "classes", "positive", "inputs"),
    "split": ("test", "test_sites"),
    "calibrate": ("test", "subgroups", "baseline"),
    "release": ("name", "description"),
    "report": ("title",),
}


class Params(Section):
    """The whole of params.yaml, or, from `params.for_stage`, the sections that one stage declared."""

    seed: int = Field(
        default=0, description="Every random draw is seeded by this number and the name of what is drawn."
    )
    budget: int = Field(
        default=300000,
        ge=1,
        description="Cost of a full run, in passes of one 128 x 128 image through the encoder; it decides the `auto` "
        "values of `preprocess`. 300000 is about an hour on two cores; on a GPU, ten times as much takes minutes.",
    )
    cohort: Cohort
    preprocess: Preprocess = Preprocess()
    split: Split = Split()
    adapt: Adapt = Adapt()
    finetune: Finetune = Finetune()
    calibrate: Calibrate = Calibrate()
    evidence: Evidence = Evidence()
    explain: Explain = Explain()
    release: Release = Release()
    report: Report = Report()

    @model_validator(mode="after")
    def _a_number_needs_no_classes(self) -> "Params":
        if problem := problem_without_classes(self):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _a_blind_fold_is_blind(self) -> "Params":
        if self.adapt.target == "evaluated" and any(name.startswith("blind-") for name in self.split.folds):
            raise ValueError(
                "split.folds names a blind- fold, but with adapt.target: evaluated adaptation sees the images of that "
                "site; set adapt.target to unlabelled or none"
            )
        return self

    @model_validator(mode="after")
    def _a_release_does_not_replace_what_it_starts_from(self) -> "Params":
        if self.adapt.weights.startswith("bundle:") and Path(self.adapt.weights).name == self.release.name:
            raise ValueError(f"adapt.weights is the release '{self.release.name}', which release.name would overwrite")
        return self
