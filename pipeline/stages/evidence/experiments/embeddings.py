"""Embed every development and test case by the features of each arm, and measure the distances between sites."""

from collections.abc import Sequence

import pandas as pd

from pipeline import paths
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.paths import Role
from pipeline.schema import FINAL, Calibrate, Params
from pipeline.seeds import seed_for
from pipeline.stages.evidence.experiments.networks import Arms
from pipeline.stages.evidence.experiments.splits import Split
from pipeline.stages.evidence.statistics.embedding import domain_distances, principal_plane

SHOWN = (Role.TRAIN, Role.VALIDATION, Role.HELD_OUT, Role.TEST)


def embeddings(arms: Arms, names: Sequence[str], settings: Calibrate) -> dict[str, pd.DataFrame]:
    """Tabulate the positions of the cases and the distances between sites, both computed without labels.

    The adapted encoder is that of the released model, or of the first fold if there is none. Labels of a closed test
    set are not written.
    """
    split = shown_split(arms.params)
    cases = split.cases[split.cases["role"].isin(SHOWN)].reset_index(drop=True)
    features = {arm: arms.features(arm, split, cases) for arm in names}
    seed = seed_for(arms.params.seed, "embedding")
    patients, sites = (cases[name].to_numpy(dtype=str) for name in ("patient", "site"))
    bootstrap = Bootstrap(settings.n_bootstrap, settings.confidence, seed)
    test = cases["role"] == Role.TEST
    known = cases[["case", "site"]].assign(
        label=cases["label"].mask(test & (settings.test == "closed"), ""),
        side=test.map({True: "test", False: "development"}),
    )
    tables = []
    for arm, found in features.items():
        places, explained = principal_plane(found)
        axes = {"x": places[:, 0], "y": places[:, 1], "explained_x": explained[0], "explained_y": explained[1]}
        tables.append(known.assign(arm=arm, **axes))
    return {
        "embedding": pd.concat(tables, ignore_index=True).round(6),
        "domain_distance": domain_distances(features, patients, sites, bootstrap),
    }


def shown_split(params: Params) -> Split:
    """Choose the fold whose encoder is shown."""
    fold = FINAL if paths.adapted_encoder(FINAL).exists() else params.split.folds[0]
    return Split(fold, paths.read_table(paths.split(fold)))
