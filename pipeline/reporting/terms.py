"""Terms of the page in one sentence each, shown on hover and listed at the end of a section."""

from markupsafe import Markup, escape

TERMS = {
    "AUC": "Area under the ROC curve: how often a case is ranked above one of another class; 0.5 is chance, 1 perfect.",
    "log-loss": "Mean of -ln of the probability given to the true class, in nats; lower is better, 0 perfect.",
    "calibration slope": "1 is right; below 1 the probabilities are too extreme, above 1 too timid.",
    "worst recall": "Of the class that is found least often, the share of cases that are found; 0 means never.",
    "set aside": "Patients whose images this learning did not train on; they tell when to stop.",
    "control": "The encoder as it came, with a head that learned as long; an epoch is kept only if it beats this.",
    "effective rank": "How many independent features are in use; where it falls by half, they have collapsed.",
    "rung": "One of the methods that were tried, from cheap to dear.",
    "oracle": "Whoever knows the labels of the judged cases; no one does when the choice has to be made.",
    "regret": "Log-loss of the oracle's rung less that of the choice: below 0 by what choosing without labels cost.",
    "source loss": "Log-loss of labelled training cases that the model did not see; lower is better.",
    "difference": "Of the source loss to the best rung below; below 0 is better.",
    "standard error": "About how far chance alone moves a difference; patients are the unit.",
    "information maximisation": "Whether forecasts are sure, and not all of one class; higher is better.",
    "neighbourhood density": "Soft neighbourhood density: whether cases have many others like them; higher is better.",
    "embedded validation": "Deep embedded validation: source loss weighted to look like the target; lower is better.",
    "Kendall's tau": "Agreement of two orders: 1 is the same, 0 unrelated, -1 reversed.",
}


def explain(term: str, shown: str | None = None) -> Markup:
    """Write a term with its explanation; a term that has none is a KeyError."""
    return Markup('<abbr title="{}">{}</abbr>').format(TERMS[term], escape(shown or term))
