"""Where a model card answers what reporting guidelines ask.

Items are those of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378), in words of our own; beside them stand the topics
of CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 6:e240300), whose numbers we leave out.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """What is asked, and who answers it where.

    Attributes
    ----------
    numbers : str
        Of TRIPOD+AI, with blanks between.
    asks : str
    topic : str
        Of CLAIM; empty where it has none.
    section : str
        Of the card; empty where the card has no answer.
    by_run : bool
        Whether the run answers it, or a part of it.
    fields : tuple of str
        Of card.yaml, that people must fill in for it to be answered.
    """

    numbers: str
    asks: str
    topic: str
    section: str
    by_run: bool
    fields: tuple[str, ...] = ()


ITEMS = (
    Item("1", "what is predicted, and of whom", "title", "Intended use", True, ("intended_use",)),
    Item("2", "a summary", "abstract", "Performance", True),
    Item("3a 3c", "context, known inequalities in care", "background", "Intended use", False, ("background",)),
    Item("3b 4", "population, users, aim", "intended use", "Intended use", False, ("intended_use", "out_of_scope")),
    Item("5a 5b 6a 6b 6c", "sources, dates, setting, eligibility", "data sources", "Data", False, ("data_sources",)),
    Item("7", "preparation of the data", "preprocessing", "How to use it", True),
    Item("8a 8b 8c", "the outcome and who evaluated it", "reference standard", "Data", False, ("reference_standard",)),
    Item("9a 9b 9c 12b", "predictors: the image alone, and its steps", "image acquisition", "How to use it", True),
    Item("10", "sample size", "sample size", "Gates", True),
    Item("11", "what was missing or refused", "missing data", "Data", True),
    Item("", "de-identification", "de-identification", "Data", True, ("deidentification",)),
    Item("12a", "who is trained on and who is evaluated", "partitions and their unit", "Data", True),
    Item("12c 22", "the model, its start and its training", "model, training, ensembling", "Model", True),
    Item("12d 14", "differences between sites and groups", "robustness, fairness", "Subgroups", True),
    Item("12e", "measures", "metrics and their uncertainty", "Performance", True),
    Item("12f 24", "updating for other places", "", "Calibration", True),
    Item("12g 15", "how a prediction is made, and what it is", "model output", "How to use it", True),
    Item("13", "class imbalance", "", "Data", True),
    Item("16 26", "limits; training unlike use", "limitations, failure analysis", "Limits", True, ("limitations",)),
    Item("17", "ethics", "ethics approval", "People and terms", False, ("ethics",)),
    Item("18a 18b", "funding, conflicts of interest", "funding", "People and terms", False, ("funding",)),
    Item("18c 18d", "protocol, registration", "registration, protocol", "People and terms", False, ("protocol",)),
    Item("18e", "sharing of data", "availability", "People and terms", False, ("data_licence", "contact")),
    Item("18f", "sharing of code and model", "availability", "Integrity", True, ("model_licence",)),
    Item("19", "patients and public", "", "People and terms", False, ("patient_involvement",)),
    Item("20a 20c 21", "flow, counts, events", "patients excluded", "Data", True),
    Item("20b", "characteristics", "demographics of partitions", "Data", True),
    Item("23a", "performance with intervals", "performance, precision", "Performance", True),
    Item("23b", "performance by site and group", "internal and external testing", "Subgroups", True),
    Item("25 27c", "what it means, what comes next", "implications", "Limits", False, ("limitations",)),
    Item(
        "27a 27b", "bad images, and what a user must know", "use in practice", "When it abstains", True, ("oversight",)
    ),
)


def answers(statements: Mapping[str, str]) -> list[dict[str, str]]:
    """Say of every item where it is answered, and what people left open.

    Parameters
    ----------
    statements : mapping
        Of card.yaml; empty where nothing was said.

    Returns
    -------
    list of dict
        `numbers`, `asks`, `topic`, and `answer`: the section, who answers, and the fields that are empty.
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
        part = ", the part that a run knows" if item.by_run else ""
        return f"{item.section}{part}; **open: {', '.join(empty)}**"
    return f"{item.section}, by {' and '.join(['the run'] * item.by_run + ['people'] * bool(item.fields))}"
