"""Score models without labels of the target site.

============================ ========= ==========================================================================
score                        better is uses
============================ ========= ==========================================================================
information_maximisation     higher    predictions for the target: certain for each case, of different classes
soft_neighbourhood_density   higher    predictions for the target: every case among many like it
deep_embedded_validation     lower     losses of labelled source cases, weighted to look like the target
source_loss                  lower     losses of labelled source cases as they are
============================ ========= ==========================================================================

None of them uses labels of the target; each description names the way in which the score can fail.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.floating]

CS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # C of scikit-learn, of the classifier of domains
LARGEST_LOG_RATIO = 20.0


def log_losses(logits: Array, labels: NDArray[np.integer]) -> Array:
    """Compute the log-loss (n,) of each case in nats: -ln p(label)."""
    losses: Array = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return losses


def source_loss(logits: Array, labels: NDArray[np.integer]) -> float:
    """Compute the mean log-loss in nats of held-out source cases, logits (n, k) and labels (n,); lower is better.

    The score ignores every difference between source and target.
    """
    return float(log_losses(logits, labels).mean())


def information_maximisation(logits: Array) -> float:
    """Compute the mutual information in nats of case and prediction from target logits (n, k); higher is better.

    IM = H(mean_i p_i) - mean_i H(p_i), in [0, ln k] (Shi, Sha 2012, "Information-theoretical learning of
    discriminative clusters for unsupervised domain adaptation", section 3): 0 both for a model that is certain of one
    class for every case and for one that is never certain. The score prefers equally frequent classes, and does not
    measure whether a confident prediction is correct.
    """
    logs = log_softmax(logits, axis=1)
    marginal = logsumexp(logs, axis=0) - np.log(len(logs))
    return float(_entropies(marginal[None])[0] - _entropies(logs).mean())


def soft_neighbourhood_density(logits: Array, temperature: float = 0.05) -> float:
    """Compute the mean entropy in nats of each case's similarity to the others from target logits; higher is better.

    With f_i = p_i / ||p_i||: P_ij = exp(f_i' f_j / t) / sum_{l != i} exp(f_i' f_l / t), SND = mean_i H(P_i), at most
    ln(n - 1) (Saito, Kim, Teterwak, Sclaroff, Darrell, Saenko 2021, "Tune it the right way: unsupervised validation
    of domain adaptation via soft neighborhood density", section 3; t = 0.05 there). Compare models on the same cases
    only. A model that predicts the same for every case reaches the maximum, so combine it with a score that penalises
    such a collapse.
    """
    shares = softmax(logits, axis=1)
    unit = shares / np.linalg.norm(shares, axis=1, keepdims=True)
    similarity = unit @ unit.T / temperature
    np.fill_diagonal(similarity, -np.inf)
    return float(_entropies(log_softmax(similarity, axis=1)).mean())


def deep_embedded_validation(
    train_features: Array, source_features: Array, target_features: Array, losses: Array, *, seed: int = 0
) -> float:
    """Estimate the risk at the target from losses of held-out source cases; lower is better.

    R = mean(w l) + eta mean(w) - eta, eta = -Cov(w l, w) / Var(w), with w of `density_ratio`: importance weighting
    with the control variate w, whose mean is 1 (You, Wang, Long, Jordan 2019, "Towards accurate model selection in
    deep unsupervised domain adaptation", section 4, algorithm 1). It assumes that the label given the features has the
    same distribution at both sites, and that the sites overlap: check `effective_sample_size`. The estimate may be
    negative.

    Parameters
    ----------
    train_features, target_features : (n_s, w), (n_t, w)
        Features of the model's training cases and of the target, from which the weights are estimated.
    source_features, losses : (n, w), (n,)
        Features and `log_losses` of held-out labelled source cases.
    """
    weights = density_ratio(train_features, source_features, target_features, seed)
    variance = weights.var(ddof=1)
    if variance == 0:
        return float(np.mean(weights * losses))
    eta = -np.cov(weights * losses, weights)[0, 1] / variance
    return float(np.mean(weights * losses) + eta * weights.mean() - eta)


def density_ratio(train_features: Array, features: Array, target_features: Array, seed: int = 0) -> Array:
    """Estimate the density ratio of target to source at cases (n, w): (n,), about 1 on average.

    w(x) = n_s / n_t * p(target | x) / p(source | x) (You et al. 2019, equation 5), p by a logistic regression on
    standardised features, its C by cross-validated log-loss. Without a shift the lowest C is chosen and w is about 1.
    """
    both = np.vstack([train_features, target_features]).astype(np.float64)
    is_target = np.repeat([0, 1], [len(train_features), len(target_features)])
    scaler = StandardScaler().fit(both)
    model = _domain_classifier(scaler.transform(both), is_target, seed)
    odds = model.decision_function(scaler.transform(np.asarray(features, dtype=np.float64)))
    log_ratio = odds + np.log(len(train_features) / len(target_features))
    ratio: Array = np.exp(np.clip(log_ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
    return ratio


def effective_sample_size(weights: Array) -> float:
    """Compute Kish's effective sample size of weights (n,): (sum w)^2 / sum w^2, from 1 to n."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def _domain_classifier(scaled: Array, is_target: NDArray[np.integer], seed: int) -> LogisticRegression:
    parts = min(5, int(np.bincount(is_target).min()))
    losses = np.zeros(len(CS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = [LogisticRegression(C=c, max_iter=300) for c in CS]
        if parts >= 2:
            for train, test in StratifiedKFold(parts, shuffle=True, random_state=seed).split(scaled, is_target):
                for number, model in enumerate(models):
                    shares = model.fit(scaled[train], is_target[train]).predict_proba(scaled[test])
                    losses[number] += log_loss(is_target[test], shares, labels=[0, 1]) * len(test)
        return models[int(losses.argmin())].fit(scaled, is_target)


def _entropies(logs: Array) -> Array:
    """Compute the entropy (n,) in nats of distributions given by log-probabilities (n, k); exp(-inf) contributes 0."""
    shares = np.exp(logs)
    entropies: Array = -np.sum(shares * np.where(shares > 0, logs, 0.0), axis=1)
    return entropies
