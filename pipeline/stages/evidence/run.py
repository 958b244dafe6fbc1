"""evidence: measure whether transfer and adaptation helped on these data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.imaging.labels import OUTPUTS
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.evaluation import TaskSpec, summary_of
from pipeline.progress import activity
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import name_of_test_set
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET, SCRATCH
from pipeline.stages.evidence.experiments.challenges import challenges
from pipeline.stages.evidence.experiments.embeddings import embeddings
from pipeline.stages.evidence.experiments.few_labels import few_shot, zero_shot
from pipeline.stages.evidence.experiments.networks import Arms, NotMeasured
from pipeline.stages.evidence.experiments.predictions import Gathered, probe, train
from pipeline.stages.evidence.experiments.splits import Split, folds_of, on_test_set, sites_left_out
from pipeline.stages.evidence.experiments.trainings import Trainings
from pipeline.stages.evidence.statistics import episodes
from pipeline.stages.evidence.statistics.differences import difference_table, domain_table, final_table, scopes_of
from pipeline.stages.evidence.statistics.extrapolation import extrapolation
from pipeline.stages.evidence.statistics.label_efficiency import label_efficiency
from pipeline.stages.evidence.statistics.learning_curves import curve_differences, learning_curve
from pipeline.stages.evidence.statistics.overfitting import overfitting
from pipeline.stages.evidence.statistics.runs import COMPARISONS, PROBE, TRAINED, Trajectory
from pipeline.stages.evidence.statistics.stratified import resample
from pipeline.stages.evidence.statistics.training_time import time_to_quality, trajectories_table
from pipeline.stages.evidence.statistics.verdicts import NOT_MEASURED, verdicts
from pipeline.stages.evidence.without_classes import evidence_without_classes

ZERO_SHOT = ["state", "model", "scope", "metric", "value", "lower", "upper", "n", "words"]
Tables = dict[str, pd.DataFrame]


def run(params: Params) -> None:
    """Write the tables of data/evidence and the verdicts."""
    facts = paths.read_json(paths.COHORT_FACTS)
    if facts["task"] in OUTPUTS:
        evidence_without_classes(params, facts["task"])
        return
    spec, arms = TaskSpec(facts["classes"], facts["task"]), Arms(params)
    folds, others = Gathered(folds_of(params), spec), Gathered(other_splits(params), spec)
    names = probed_arms(arms, folds, others)
    activity("probes on frozen features")
    probe(arms, folds, names, fractions=params.evidence.fractions, draws=params.evidence.draws)
    probe(arms, others, names, fractions=(), draws=0)
    activity("trainings")
    trainings = train_arms(arms, folds, others)
    activity("intervals")
    tables = evaluate(folds, others, params)
    activity("few labels")
    tables |= with_few_labels(arms, folds, names, params)
    activity("features")
    tables["challenges"] = challenges(arms, folds.splits, names, tables["final"])
    tables |= embeddings(arms, names, params.calibrate)
    tables["verdicts"] = with_reasons(verdicts(tables), others.why_not | folds.why_not)
    write(tables, record_of(arms, trainings, params))


def other_splits(params: Params) -> list[Split]:
    """List the splits that leave out one site each, and the test set if it is open."""
    reserved = on_test_set() if params.calibrate.test == "open" else None
    return [*sites_left_out(), *([reserved] if reserved else [])]


def probed_arms(arms: Arms, *several: Gathered) -> list[str]:
    """Name the arms whose frozen features can be probed."""
    if not arms.same_features():
        return [IMAGENET, ADAPTED]
    for gathered in several:
        gathered.why_not[PROBE, ADAPTED] = f"adapt.method {arms.method[0]} does not change frozen features"
    return [IMAGENET]


def train_arms(arms: Arms, folds: Gathered, others: Gathered) -> Trainings | None:
    """Train the arms as far as the budget allows."""
    settings = arms.params.evidence
    if settings.budget:
        trainings = Trainings(arms, settings.budget)
        train(trainings, folds, others, settings.fractions)
        return trainings
    for gathered in (folds, others):
        for arm in (SCRATCH, IMAGENET, ADAPTED):
            gathered.why_not[TRAINED, arm] = "nothing was trained; set evidence.budget above 0"
    return None


def evaluate(folds: Gathered, others: Gathered, params: Params) -> Tables:
    """Compute every metric of the predictions."""
    settings, runs = params.calibrate, folds.runs()
    seed = seed_for(params.seed, "bootstrap", "evidence")
    bootstrap = Bootstrap(settings.n_bootstrap, settings.confidence, seed)
    domains = others.runs()
    drawn = resample([runs, domains], bootstrap)
    scopes, resampled = scopes_of(runs, domains, name_of_test_set(), drawn), drawn[0]
    return {
        "learning_curve": learning_curve(runs, folds.spec.classes, resampled),
        "curve_differences": curve_differences(runs, resampled),
        "label_efficiency": label_efficiency(runs, resampled),
        "extrapolation": extrapolation(runs, params.evidence.auc_goal, resampled),
        "domains": domain_table(scopes),
        "final": final_table(scopes, settings.bins),
        "differences": difference_table(scopes, settings.bins),
        **of_trainings(folds.trajectories, bootstrap),
    }


def of_trainings(trajectories: Sequence[Trajectory], bootstrap: Bootstrap) -> Tables:
    """Compare the trainings: how fast they became good, and how much they overfitted."""
    times = [time_to_quality(trajectories, arm, reference, bootstrap) for arm, reference in COMPARISONS.values()]
    gaps = [overfitting(trajectories, arm, reference, bootstrap) for arm, reference in COMPARISONS.values()]
    return {
        "trajectories": trajectories_table(trajectories),
        "time_to_quality": pd.concat(times, ignore_index=True),
        "overfitting": pd.concat(gaps, ignore_index=True),
    }


def with_few_labels(arms: Arms, folds: Gathered, names: Sequence[str], params: Params) -> Tables:
    """Tabulate few-shot and zero-shot results."""
    found, confidence = few_shot(arms, folds.splits, names, params.evidence), params.calibrate.confidence
    return {
        "few_shot": episodes.few_shot(found, len(folds.cases), confidence),
        "few_shot_differences": episodes.few_shot_differences(found, confidence),
        "zero_shot": zero_shot_table(arms, folds, params),
    }


def zero_shot_table(arms: Arms, folds: Gathered, params: Params) -> pd.DataFrame:
    """Tabulate the metrics of a vision-language model that saw no labels, or the reason why there are none."""
    given = params.evidence.vision_language or ""
    model = given if given.startswith("hub:") else Path(given).name  # the report must not show local paths
    try:
        probabilities = zero_shot(arms, folds, params.evidence)
    except NotMeasured as error:
        return pd.DataFrame([{"state": "not available", "model": model, "words": str(error)}], columns=ZERO_SHOT)
    evaluated = folds.evaluated(probabilities)
    evaluated = replace(evaluated, cases=evaluated.cases.assign(fold="untrained"))  # so that no folds are coupled
    settings, seed = params.calibrate, seed_for(params.seed, "bootstrap", "zero-shot")
    bootstrap = Bootstrap(settings.n_bootstrap, settings.confidence, seed)
    metrics = summary_of(evaluated, probabilities, folds.spec, bins=settings.bins, bootstrap=bootstrap)
    known = {"state": "measured", "model": model, "scope": "internal", "n": metrics["n"], "words": ""}
    rows = [known | {"metric": name} | metrics[name] for name in ("auc", "log_loss", "accuracy")]
    return pd.DataFrame(rows, columns=ZERO_SHOT)


def with_reasons(table: pd.DataFrame, why_not: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Explain each missing verdict by the reason why its arms were not trained or probed."""
    for number, row in table[table["verdict"] == NOT_MEASURED].iterrows():
        arms, comparison = COMPARISONS[row["comparison"]], row["comparison"]
        recipes = (TRAINED,) if comparison == "transfer" or row["promise"] in (2, 3) else (PROBE, TRAINED)
        reasons = [why_not[recipe, arm] for recipe in recipes for arm in arms if (recipe, arm) in why_not]
        table.loc[number, "why"] = next(iter(reasons), row["why"])
    return table


def record_of(arms: Arms, trainings: Trainings | None, params: Params) -> dict[str, Any]:
    """Record how the arms were compared."""
    settings = params.evidence
    spent = settings.budget - trainings.left if trainings else 0
    return {
        **{name: getattr(settings, name) for name in ("budget", "fractions", "draws", "episodes", "auc_goal")},
        "method": arms.method[0],
        "passes_spent": round(float(spent)),
        "rates": trainings.rates if trainings else {},
        "confidence": params.calibrate.confidence,
    }


def write(tables: Tables, record: dict[str, Any]) -> None:
    """Write the tables; seconds vary between runs, so they are stored with the other costs."""
    times = tables["time_to_quality"]
    seconds = times["unit"] == "seconds"
    paths.write_table(times[seconds], paths.COST / "evidence_time.csv")
    lasting = {"time_to_quality": times[~seconds], "trajectories": tables["trajectories"].drop(columns="seconds")}
    for name, table in (tables | lasting).items():
        paths.write_table(table, paths.evidence(name))
    paths.write_json(record, paths.EVIDENCE / "record.json")
    paths.write_table(tables["verdicts"], paths.VERDICTS)
