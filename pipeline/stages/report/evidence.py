"""What the page shows of the evidence: whether transfer and adaptation paid, promise by promise, and by how much."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.stages.report.blocks import SETS, Row
from pipeline.stages.report.evidence_charts import arm_name, banded, forest, of_arms, overfitting_chart, time_chart
from pipeline.stages.report.glossary import link
from pipeline.stages.report.verdicts import COMPARISONS, multiplicity, promises, recipe_name, shown, summary

Tables = Mapping[str, Sequence[Row]]

TABLES = (
    *("verdicts", "learning_curve", "label_efficiency", "extrapolation", "trajectories", "time_to_quality"),
    *("overfitting", "domains", "final", "differences", "few_shot", "few_shot_differences", "zero_shot", "challenges"),
)
SCOPES = SETS | {"left out": "mean over the sites left out"}
ONE_SITE = "site "  # a scope that begins so is a site by itself
METRICS = {  # column heading and digits
    "auc": ("AUC", 3),
    "log_loss": ("Log-loss", 3),
    "brier": ("Brier score", 3),
    "calibration_slope": ("Calibration slope", 2),
    "ece": ("ECE", 3),
}
UNITS = {"epochs": "epochs", "passes": "image passes", "seconds": "seconds"}
METHODS = {"prototype": "nearest class mean", "knn": "nearest neighbours", "probe": "probe"}
CHALLENGES = {
    "architecture": "Does the architecture fit?",
    "knowledge": "Does the encoder know enough?",
}


def evidence_section(tables: Tables, record: Row) -> dict[str, Any]:
    """Collect what evidence.html shows.

    Parameters
    ----------
    tables : mapping
        Rows of each of `TABLES`, as the stage `evidence` wrote them; empty where nothing was measured.
    record : mapping
        budget, passes_spent, method, rates (fold to learning rate from scratch), episodes, confidence and more.

    Returns
    -------
    dict
        Under the name of each part what it shows; empty where there is nothing to show.
    """
    return {
        "record": record,
        "summaries": [summary(tables["verdicts"], comparison) for comparison in COMPARISONS],
        "multiplicity": multiplicity(tables["verdicts"], record["confidence"]),
        "promises": promises(tables["verdicts"]),
        "learning": learning_curves(tables["learning_curve"]),
        "efficiency": [efficiency_in_words(row) for row in tables["label_efficiency"]],
        "extrapolation": [f"{_who(row)}: {row['words']}" for row in in_order(tables["extrapolation"])],
        "courses": courses(tables["trajectories"]),
        "times": times(tables["time_to_quality"]),
        "overfitting": tables["overfitting"],
        "domains": domains(tables["domains"]),
        "final": by_scope(in_order(tables["final"]), "arm", arm_name),
        "differences": by_scope(tables["differences"], "comparison", COMPARISONS.__getitem__),
        "few_shot": few_shot(tables["few_shot"], tables["few_shot_differences"]),
        "zero_shot": tables["zero_shot"],
        "challenges": challenges(tables["challenges"]),
        "enough": enough_data(tables["challenges"], tables["extrapolation"]),
        "comparisons": COMPARISONS,
        "metrics": METRICS,
        "units": UNITS,
        "arm": arm_name,
        "amount": amount,
        "shown": shown,
        "term": link,
    }


def learning_curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Draw the AUC of each recipe over the labelled patients; each class against the rest stands apart.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of recipe, arm, of, metric ("auc", "log_loss"), fraction, patients, draws, value, lower, upper and n.

    Returns
    -------
    list of dict
        recipe, svg, caption, classes (each with svg and caption) and rows: one for each arm, question and fraction.
    """
    found = []
    for recipe, own in _parted(rows, "recipe"):
        aucs = _parted([row for row in own if row["metric"] == "auc"], "of")
        charts = [{"of": of or "", **learning_chart(recipe, of or "", some)} for of, some in aucs]
        table = wide(own, ("of", "arm", "fraction"))
        found.append({"recipe": recipe_name(recipe), "charts": charts[:1], "classes": charts[1:], "rows": table})
    return found


def learning_chart(recipe: str, of: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Draw one learning curve of every arm."""
    title = f"{recipe_name(recipe)}{f', {of} against the rest' if of else ''}"
    svg = banded(f"Learning curve, {title}", rows, "patients", "labelled patients", y_name="AUC")
    draws = max(row["draws"] for row in rows)
    cases = f"n = {rows[0]['n']:.0f} cases; smaller shares: mean of {draws:.0f} draw{'' if draws == 1 else 's'}"
    return {"svg": svg, "caption": f"{title[0].upper()}{title[1:]}, {cases}"}


def efficiency_in_words(row: Row) -> Markup:
    """Say how many labelled patients an arm needs for what its reference reaches with all; in bold if it differs."""
    sure = (row["lower"] or 0) > 1 or (row["upper"] is not None and row["upper"] < 1)  # the interval leaves 1 out
    words = Markup("<strong>{}</strong>" if sure else "{}").format(row["words"])
    said = Markup("{} against {}: {}").format(_who(row), arm_name(row["reference"]), words)
    if row["ratio"] is None:
        return said
    needs = f"{row['patients']:.0f} instead of " if row["patients"] is not None else "the reference has "
    patients = f"{needs}{row['reference_patients']:.0f} patients"
    return said + Markup('<span class="soft">; ratio {}; {}</span>').format(shown(row, ".2f", "ratio"), patients)


def courses(rows: Sequence[Row]) -> dict[str, Any]:
    """Draw how trainings went; nothing where none was run."""
    if not rows:
        return {}
    folds = len({row["fold"] for row in rows})
    of_folds = f"thin: each of {folds} folds; thick: their mean, where all of them are" if folds > 1 else "one fold"
    return {
        "charts": [
            {"svg": time_chart(rows), "caption": f"Log-loss of held-out cases; {of_folds}"},
            {
                "svg": overfitting_chart(rows),
                "caption": "The same over the training loss, where it is first reached; time runs from right to left",
            },
        ],
        "rows": in_order(rows),
    }


def times(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Put the units in which two arms' times are counted together, and say once what is said of each."""
    return [
        {
            "pair": f"{arm_name(arm)} against {arm_name(reference)}",
            "rows": own,
            "words": "; ".join(dict.fromkeys(row["words"] for row in own if row.get("words"))),
        }
        for (arm, reference), own in _parted(rows, "arm", "reference")
    ]


def domains(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Draw the forest of sites of each recipe.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of recipe, arm, kind ("left_out", "external"), site, n, events, internal_auc, and of auc and gap with
        _lower and _upper.

    Returns
    -------
    list of dict
        recipe, axis, worst (in words), and sites, each with its rows, to which `place` and `drawn` were added.
    """
    found = []
    for recipe, own in _parted(rows, "recipe"):
        ordered = [row for _, some in _parted(_external_last(own), "site", "kind") for row in in_order(some)]
        plot = forest(ordered)
        drawn = [
            {**row, "place": place(row), "drawn": image} for row, image in zip(ordered, plot["drawn"], strict=True)
        ]
        sites = [some for _, some in _parted(drawn, "site", "kind")]
        found.append({"recipe": recipe_name(recipe), "axis": plot["axis"], "worst": worst_sites(own), "sites": sites})
    return found


def place(row: Row) -> str:
    """Name a site; external cases of several sites have no single one."""
    return row["site"] or ("all external cases" if row["kind"] == "external" else "(none)")


def worst_sites(rows: Sequence[Row]) -> list[str]:
    """Name the site at which each arm is worst, where several are evaluated."""
    known = [(arm, [row for row in own if row["auc"] is not None]) for arm, own in of_arms(rows)]
    worst = [(arm, min(own, key=lambda row: row["auc"])) for arm, own in known if len(own) > 1]
    return [f"{place(row)} for {arm_name(arm)} (AUC {row['auc']:.2f})" for arm, row in worst]


def by_scope(rows: Sequence[Row], who: str, names: Callable[[str], str]) -> list[dict[str, Any]]:
    """Lay out metrics of each recipe: sets of cases, in them a row for each arm or comparison, with all its metrics.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of recipe, scope, metric, n, of the column `who`, and of a metric's value.
    who : str
    names : callable
        What the page calls one of `who`.

    Returns
    -------
    list of dict
        recipe, sets (name to rows of who, n and metrics), and `sites`, those sets that are a site by itself.
    """
    found = []
    for recipe, own in _parted(rows, "recipe"):
        table = [{**row, "who": names(row[who])} for row in wide(own, ("scope", who))]
        parted = _parted(table, "scope")
        found.append(
            {
                "recipe": recipe_name(recipe),
                "sets": {SCOPES.get(scope, scope): some for scope, some in parted if not scope.startswith(ONE_SITE)},
                "sites": {
                    scope.removeprefix(ONE_SITE) or "(none)": some
                    for scope, some in parted
                    if scope.startswith(ONE_SITE)
                },
            }
        )
    return found


def few_shot(rows: Sequence[Row], differences: Sequence[Row]) -> list[dict[str, Any]]:
    """Draw the few-shot curves, one chart for each method, with the paired differences beside them."""
    found = []
    for method, own in _parted(rows, "method"):
        name = METHODS.get(method, method)
        svg = banded(f"Few-shot curve, {name}", own, "shots", "labelled patients per class", y_name="AUC")
        caption = f"{name.capitalize()}, n = {own[0]['n']:.0f} cases evaluated, {own[0]['episodes']:.0f} episodes"
        paired = [row for row in differences if row["method"] == method]
        found.append({"svg": svg, "caption": caption, "name": name, "rows": own, "differences": paired})
    return found


def enough_data(challenges: Sequence[Row], extrapolation: Sequence[Row]) -> list[str]:
    """Say how many patients a fold trains on, and what the learning curves say of more; nothing where it is unknown."""
    counts = [f"{row['value']:.3g} {row['name']}" for row in challenges if row["challenge"] == "data"]
    if not counts:
        return []
    more = [f"{_who(row)}: {row['words']}." for row in in_order(extrapolation)]
    unknown = ["Whether more patients would help was not measured."]
    return [f"On average, a fold trains on {' and '.join(counts)}.", *(more or unknown)]


def challenges(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Take the challenges apart that are told in tables."""
    parted = ((heading, [row for row in rows if row["challenge"] == name]) for name, heading in CHALLENGES.items())
    return [{"heading": heading, "rows": own} for heading, own in parted if own]


def wide(rows: Sequence[Row], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Give each metric of a long table a column: rows that agree in `keys` become one, with all of its `metrics`."""
    return [{**some[0], "metrics": {row["metric"]: row for row in some}} for _, some in _parted(rows, *keys)]


def amount(value: float | None) -> str:
    """Write how much was spent: whole numbers where they are large, three digits where they are small."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Put the rows of the adapted arm first, then ImageNet's, then those from scratch."""
    return [row for _, own in of_arms(rows) for row in own]


def _who(row: Row) -> str:
    name = arm_name(row["arm"])
    return f"{name[:1].upper()}{name[1:]} ({recipe_name(row['recipe'])})"


def _external_last(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["kind"] == "external", row["site"] or ""))


def _parted(rows: Sequence[Row], *keys: str) -> list[tuple[Any, list[Row]]]:
    """Take a table apart by one column, or by several; parts and rows keep their order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys), []).append(row)
    return list(found.items())
