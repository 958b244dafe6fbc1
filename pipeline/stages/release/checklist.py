"""Map the items of reporting guidelines to the sections of the model card.

Items are those of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378), in words of our own, with the topics of CLAIM 2024
(Tejani et al., Radiology: Artificial Intelligence 6:e240300), without its numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One item of the guidelines, and who answers it in which section.

    Attributes
    ----------
    numbers : str
        Of TRIPOD+AI, separated by spaces.
    asks : str
    topic : str
        Of CLAIM; empty if it has none.
    section : str
        Of the card; empty if the card has no answer.
    by_run : bool
        Whether the run answers all or a part of it.
    fields : tuple of str
        Fields of card.yaml that people must fill in.
    """

    numbers: str
    asks: str
    topic: str
    section: str
    by_run: bool = True
    fields: tuple[str, ...] = ()


ITEMS = (
    Item("1", "what is predicted, and for whom", "title", "Intended use", fields=("intended_use",)),
    Item("2", "a summary", "abstract", "Summary"),
    Item(
        "3a 3c",
        "context, known inequalities in care",
        "background",
        "Intended use",
        by_run=False,
        fields=("background",),
    ),
    Item(
        "3b 4",
        "population, users, aim",
        "intended use",
        "Intended use",
        by_run=False,
        fields=("intended_use", "out_of_scope"),
    ),
    Item(
        "5a 5b 6a 6b 6c",
        "sources, dates, setting, eligibility",
        "data sources",
        "Data",
        by_run=False,
        fields=("data_sources",),
    ),
    Item("7", "preprocessing of the data", "preprocessing", "How to use it"),
    Item(
        "8a 8b 8c",
        "the outcome and who assessed it",
        "reference standard",
        "Data",
        by_run=False,
        fields=("reference_standard",),
    ),
    Item("9a 9b 9c 12b", "predictors: the image alone, and its preprocessing", "image acquisition", "How to use it"),
    Item("10", "sample size", "sample size", "Gates"),
    Item("11", "missing data and refused scans", "missing data", "Data"),
    Item("", "de-identification", "de-identification", "Data", fields=("deidentification",)),
    Item("12a", "training and evaluation cases", "partitions and their unit", "Data"),
    Item("12c 22", "the model, its initial weights, its training", "model, training, ensembling", "Model"),
    Item("12d 14", "differences between sites and groups", "robustness, fairness", "Subgroups"),
    Item("12e", "measures", "metrics and their uncertainty", "Performance"),
    Item("12f 24", "updating for other sites", "", "Calibration"),
    Item("12g 15", "how a prediction is made, and its form", "model output", "How to use it"),
    Item("13", "class imbalance", "", "Data"),
    Item(
        "16 26",
        "limitations; differences between training and use",
        "limitations, failure analysis",
        "Limits",
        by_run=True,
        fields=("limitations",),
    ),
    Item("17", "ethics", "ethics approval", "People and terms", by_run=False, fields=("ethics",)),
    Item("18a 18b", "funding, conflicts of interest", "funding", "People and terms", by_run=False, fields=("funding",)),
    Item(
        "18c 18d",
        "protocol, registration",
        "registration, protocol",
        "People and terms",
        by_run=False,
        fields=("protocol",),
    ),
    Item(
        "18e", "sharing of data", "availability", "People and terms", by_run=False, fields=("data_licence", "contact")
    ),
    Item("18f", "sharing of code and model", "availability", "Integrity", fields=("model_licence",)),
    Item("19", "patient and public involvement", "", "People and terms", by_run=False, fields=("patient_involvement",)),
    Item("20a 20c 21", "flow, counts, events", "patients excluded", "Data"),
    Item("20b", "characteristics", "demographics of partitions", "Data"),
    Item("23a", "performance with intervals", "performance, precision", "Performance"),
    Item("23b", "performance by site and group", "internal and external testing", "Subgroups"),
    Item("25 27c", "interpretation, next steps", "implications", "Limits", by_run=False, fields=("limitations",)),
    Item(
        "27a 27b", "poor images, and what users must know", "use in practice", "When it abstains", fields=("oversight",)
    ),
)


def answers(statements: Mapping[str, str]) -> list[dict[str, str]]:
    """Tell for each item where it is answered, and which fields are empty.

    Parameters
    ----------
    statements : mapping
        Fields of card.yaml with their texts; "" if empty.

    Returns
    -------
    list of dict
        `numbers`, `asks`, `topic`, and `answer`: the section, who answers, and the empty fields.
    """
    return [
        {"numbers": ", ".join(item.numbers.split()), "asks": item.asks, "topic": item.topic}
        | {"answer": _answer(item, statements)}
        for item in ITEMS
    ]


def _answer(item: Item, statements: Mapping[str, str]) -> str:
    if not item.section:
        return "**not answered here**"
    empty = [field for field in item.fields if not statements[field]]
    if empty:
        part = ", in part by the run" if item.by_run else ""
        return f"{item.section}{part}; **open: {', '.join(empty)}**"
    return f"{item.section}, by {' and '.join(['the run'] * item.by_run + ['people'] * bool(item.fields))}"
