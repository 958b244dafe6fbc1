"""Terms of the page in one sentence each, shown on hover and listed in the glossary at its end."""

import re

from markupsafe import Markup, escape

OF_ADAPTATION = {
    "AUC": "Area under the ROC curve: how often a case is ranked above one of another class; 0.5 is chance, 1 perfect. "
    "Evidence compares cases within a fold only.",
    "log-loss": "Mean of -ln of the probability given to the true class, in nats; lower is better, 0 perfect.",
    "calibration slope": "1 is right; below 1 the probabilities are too extreme, above 1 too timid.",
    "worst recall": "Lowest recall of any class: the share of its cases that are recognised; 0 means none.",
    "set aside": "Patients whose images are not trained on; their loss decides when to stop.",
    "control": "The unchanged encoder with a head trained as long; an epoch is selected only if it beats this.",
    "effective rank": "How many independent features are in use; where it falls by half, they have collapsed.",
    "candidate": "One of the methods tried, in order of cost.",
    "oracle": "A selection with the labels of the evaluated cases, which are unknown when the method is selected.",
    "regret": "Log-loss of the oracle's candidate minus that of the selected one; below 0 by the cost of no labels.",
    "source loss": "Log-loss of labelled training cases that the model did not see; lower is better.",
    "difference": "Source loss minus that of the best candidate before; below 0 is better.",
    "standard error": "Standard deviation of the difference over samples of patients.",
    "information maximisation": "Whether predictions are confident and spread over classes; higher is better.",
    "neighbourhood density": "Soft neighbourhood density: whether cases have many others like them; higher is better.",
    "embedded validation": "Deep embedded validation: source loss weighted to look like the target; lower is better.",
    "Kendall's tau": "Agreement of two orders: 1 is the same, 0 unrelated, -1 reversed.",
}
OF_RECIPES = {
    "knn": "Nothing is trained: the most similar training cases vote.",
    "probe": "Logistic regression on the frozen features; all later recipes begin with it.",
    "last_stage": "The encoder's last stage is trained, starting from the probe.",
    "lp_ft": "The encoder's last stages (finetune.trainable_stages) are trained, starting from the probe.",
    "gradual": "The encoder's last stages (finetune.trainable_stages), unfrozen one after the other.",
    "lora": "Low-rank updates of the last stages' weights are trained, starting from the probe.",
    "full": "Every stage is trained on all training cases.",
    "portfolio": "The mean of the probabilities of several members, each trained on all training cases.",
    "distilled": "One network that learns the probabilities of a portfolio on the training cases.",
    "member": "A network of a portfolio: a probe, or a network of which every stage was trained.",
    "C": "Inverse regularisation strength of the probe: the lower, the closer to zero its weights are held.",
    "kept epoch": "The best epoch on validation patients, who are neither trained on nor evaluated; 0 is the probe.",
    "cross-validated loss": "Log-loss of the training cases, each predicted by a model that never saw its patient.",
    "paired difference": "Mean over these cases of the loss minus that of the last recipe kept; below 0 is better.",
    "standard error": OF_ADAPTATION["standard error"],
    "image passes": "Cost of a training: images through the whole encoder; the backward pass counts double.",
}
OF_ASSESSMENT = {
    **{name: OF_ADAPTATION[name] for name in ("AUC", "log-loss", "calibration slope", "standard error")},
    "Brier score": "Mean squared error of the probability; lower is better, 0 perfect. It is MCB - DSC + UNC.",
    "MCB": "Miscalibration: by how much recalibration on these cases would lower the Brier score; 0 is best.",
    "DSC": "Discrimination: by how much separating the cases lowers the Brier score; higher is better.",
    "UNC": "Uncertainty: the Brier score of predicting the share of events for every case.",
    "O:E": "Events observed over events expected; above 1 the model predicts too few, below 1 too many.",
    "intercept": "Calibration in the large, in logits; 0 is right, above 0 the predictions are too low.",
    "ICI": "Integrated calibration index: mean distance of the smooth calibration curve from the diagonal.",
    "ECE, equal width": "Expected calibration error over bins of equal width: mean distance of share from prediction.",
    "ECE, equal mass": "Expected calibration error over bins that hold equally many cases.",
    "squared error, debiased": "Squared calibration error over bins minus the part due to chance; 0 if perfect.",
    "average precision": "Area under the curve of precision over recall; the share of events is chance, 1 perfect.",
    "net benefit": "True positives per case minus false positives weighted by the odds of the threshold.",
    "gain": "Net benefit minus that of the better of acting on all and acting on none.",
    "PPV": "Positive predictive value: the share of events among those called positive.",
    "NPV": "Negative predictive value: the share of non-events among those called negative.",
    "AURC": "Area under the risk-coverage curve: the mean share of errors over all coverages; lower is better.",
    "excess AURC": "AURC minus that of the best possible ranking by certainty at this error rate; 0 is best.",
    "conformal set": "Classes that cannot be ruled out; one is informative, all are not, none means an unusual case.",
    "adjusted p": "Probability that chance alone gives a difference this large in any of the comparisons.",
    "accuracy": "Share of cases whose most probable class is the true one.",
    "sensitivity": "Share of the cases with an event that are called positive.",
    "specificity": "Share of the cases without an event that are called negative.",
    "macro average": "The plain mean over classes: a rare class counts as much as a common one.",
    "kappa": "Agreement beyond chance; errors count by the square of their distance in grades; 1 is perfect.",
    "grade error": "Mean distance, in grades, of the true grade from the median prediction; 0 is perfect.",
    "detectable": "The smallest true difference that four of five studies with this many cases would find.",
}
OF_COLUMNS = {  # of tables of metrics, by the name of the column
    **{"auc": "AUC", "log_loss": "log-loss", "brier": "Brier score", "ece": "ECE, equal width"},
    **{"calibration_slope": "calibration slope", "quadratic_kappa": "kappa", "grade_error": "grade error"},
    **{name: name for name in ("accuracy", "sensitivity", "specificity")},
}
OF_EVIDENCE = {
    "from scratch": "The same network from random weights: same loop, its own learning rate, a longer schedule.",
    "ImageNet": "The pretrained network, not adapted; trained on photographs.",
    "adapted": "The network after adaptation to these images, as in the released model.",
    "gap": "Held-out minus training log-loss, where both arms fit the training cases equally well; 0 is none.",
    "gap to internal": "Internal AUC minus the AUC at the site; above 0 the model is worse there.",
    "shots": "Labelled patients of each class that the model was trained on, drawn at random many times.",
}
OF_IMAGES = {
    "MMD²": "Squared distance of the mean features of a site from those of all other sites, in standard deviations and "
    "per feature (linear kernel, unbiased); 0 is none.",
    "A-distance": "Proxy A-distance: 0 if a classifier cannot tell the site from the others, 2 if it always does.",
    "saliency": "Where the image supports the class that is named; not where a disease is.",
    "outside of the body": "Dark background that touches the edge of the image: below Otsu's threshold.",
}
TERMS = OF_ADAPTATION | OF_RECIPES | OF_ASSESSMENT | OF_EVIDENCE | OF_IMAGES


def glossary() -> list[tuple[str, str, str]]:
    """List the terms in the order of the alphabet, each with the name of its place on the page and its meaning."""
    return [(place_of(term), term, TERMS[term]) for term in sorted(TERMS, key=str.casefold)]


def place_of(term: str) -> str:
    """Name the place of a term on the page."""
    return "term-" + re.sub(r"[^a-z0-9]+", "-", term.casefold().replace("²", "2")).strip("-")


def link(term: str, shown: str | None = None) -> Markup:
    """Write a term as a link to its entry in the glossary, with its explanation on hover."""
    known = TERMS[term]
    return Markup('<a class="term" href="#{}" title="{}">{}</a>').format(place_of(term), known, escape(shown or term))


def link_column(column: str, shown: str) -> Markup:
    """Write the head of a column of metrics as a link to the glossary."""
    return link(OF_COLUMNS[column], shown)


def explain(term: str, shown: str | None = None) -> Markup:
    """Write a term with its explanation; a term that has none is a KeyError."""
    return Markup('<abbr title="{}">{}</abbr>').format(TERMS[term], escape(shown or term))
