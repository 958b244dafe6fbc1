"""What the mean of the members gains over each of them, from tables of predictions."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit, softmax
from sklearn.metrics import log_loss, roc_auc_score

from pipeline import paths
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.comparison import Settings
from pipeline.metrics.evaluation import TaskSpec
from pipeline.stages.calibrate.portfolio import COLUMNS, evaluate_members

SPEC, SETTINGS = TaskSpec(["well", "ill"]), Settings(10, Bootstrap(200, 0.95, 0))
LOGITS = ["logit_0", "logit_1"]


def write(fold, members, seed):
    """Write 60 held-out cases and, for each member, logits that are as sharp as it is good."""
    rng = np.random.default_rng(seed)
    label = np.where(np.arange(60) % 2, "ill", "well")
    cases = pd.DataFrame({"case": [f"{fold}-{n}" for n in range(60)], "patient": [f"{fold}-{n}" for n in range(60)]})
    cases = cases.assign(site="", label=label, role="held_out")
    logits = {name: rng.normal(0, 1, 60) + good * (label == "ill") for name, good in members.items()}
    tables = [cases.assign(logit_0=0.0, logit_1=values, member=name) for name, values in logits.items()]
    mean = logit(np.mean([1 / (1 + np.exp(-values)) for values in logits.values()], axis=0))
    paths.write_table(cases.assign(logit_0=0.0, logit_1=mean), paths.predictions(fold))
    paths.write_table(pd.concat(tables) if len(members) > 1 else tables[0].iloc[:0], paths.member_predictions(fold))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_rows_are_scikit_learns_metrics_and_gains_their_differences(folder):
    for number, fold in enumerate("01"):
        write(fold, {"probe": 1.0, "full": 1.5}, number)
    found = evaluate_members(["0", "1"], SPEC, SETTINGS).set_index("member")
    assert found.index.tolist() == ["portfolio", "probe", "full"] and (found["n"] == 120).all()
    pooled = pd.concat(pd.read_csv(paths.member_predictions(fold)) for fold in "01").query("member == 'probe'")
    events, prediction = pooled["label"] == "ill", softmax(pooled[LOGITS].to_numpy(), axis=1)[:, 1]
    row = found.loc["probe"]
    assert row["auc"] == pytest.approx(roc_auc_score(events, prediction), abs=1e-5)
    assert row["log_loss"] == pytest.approx(log_loss(events, prediction), abs=1e-5)
    assert row["auc_gain"] == pytest.approx(found.loc["portfolio", "auc"] - row["auc"], abs=1e-5)
    assert row["log_loss_gain"] == pytest.approx(row["log_loss"] - found.loc["portfolio", "log_loss"], abs=1e-5)
    assert row["log_loss_gain_lower"] < row["log_loss_gain"] < row["log_loss_gain_upper"]
    assert pd.isna(found.loc["portfolio", "auc_gain"])


def test_a_single_network_has_no_rows(folder):
    write("0", {"probe": 1.0}, 0)
    found = evaluate_members(["0"], SPEC, SETTINGS)
    assert found.empty and found.columns.tolist() == COLUMNS
