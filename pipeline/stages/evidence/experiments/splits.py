"""List the training and evaluated cases of each comparison: the folds, every site left out, the test set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline import paths
from pipeline.paths import Role
from pipeline.schema import FINAL, Params


@dataclass(frozen=True)
class Split:
    """The role of each case in one comparison.

    Attributes
    ----------
    name : str
        A fold, "without-SITE", or "final".
    cases : pandas.DataFrame
        Columns case, patient, site, label, role; the evaluated cases have the role `held_out`.
    """

    name: str
    cases: pd.DataFrame

    @property
    def labelled(self) -> pd.DataFrame:
        """The labelled training and validation cases."""
        return self.cases[self.cases["role"].isin([Role.TRAIN, Role.VALIDATION])]

    @property
    def evaluated(self) -> pd.DataFrame:
        """The evaluated cases."""
        return self.cases[self.cases["role"] == Role.HELD_OUT]

    def only(self, kept: Sequence[str], validation: Sequence[str]) -> "Split":
        """Restrict training to the cases in `kept`, of which those in `validation` stop the training."""
        case = self.cases["case"]
        role = self.cases["role"].where(~case.isin(self.labelled["case"]), Role.EXCLUDED)
        role = role.mask(case.isin(kept), Role.TRAIN).mask(case.isin(validation), Role.VALIDATION)
        return Split(self.name, self.cases.assign(role=role))


def folds_of(params: Params) -> list[Split]:
    """Read the folds of the partition."""
    return [Split(fold, paths.read_table(paths.split(fold))) for fold in params.split.numbered]


def sites_left_out() -> list[Split]:
    """Leave each development site out in turn; its images are then not seen at all, even without their labels."""
    cases = paths.read_table(paths.split(FINAL))
    developed = cases["role"].isin([Role.TRAIN, Role.VALIDATION])
    found, sites = [], sorted(set(cases.loc[developed, "site"]))
    for site in sites if len(sites) > 1 else []:
        here = cases["site"] == site
        role = cases["role"].mask(here | (cases["role"] == Role.TEST), Role.EXCLUDED)
        found.append(Split(f"without-{slug(site)}", cases.assign(role=role.mask(here & developed, Role.HELD_OUT))))
    return found


def on_test_set() -> Split | None:
    """Train on all development cases and evaluate the test cases; None without a test set."""
    cases = paths.read_table(paths.split(FINAL))
    role = cases["role"].mask(cases["role"] == Role.TEST, Role.HELD_OUT)
    return Split(FINAL, cases.assign(role=role)) if (role == Role.HELD_OUT).any() else None


def slug(site: str) -> str:
    """Write a site as it appears in the names of folds."""
    return re.sub(r"[^A-Za-z0-9_]", "-", site)
