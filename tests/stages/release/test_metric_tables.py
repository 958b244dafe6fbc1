import pandas as pd

from pipeline import paths
from pipeline.stages.release.card import show_metric
from pipeline.stages.release.metric_tables import rows_with

SETS = {"internal": {}, "internal_patients": {}}


def rows():
    return rows_with(SETS, "operating_points", ("threshold", "sensitivity"))


def test_metrics_of_patients_are_preferred_and_missing_ones_are_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rows() == []  # a task without such a table
    table = pd.DataFrame(
        {
            "scope": ["internal", "internal_patients", "internal_patients"],
            "of": ["NA", "NA", "mass"],
            "threshold": [0.3, 0.4, None],
            "sensitivity": [0.9, 0.8, None],
            "sensitivity_lower": [0.8, 0.7, None],
            "sensitivity_upper": [1.0, 0.9, None],
        }
    )
    paths.write_table(table, paths.assessed("operating_points"))
    found = rows()
    assert [row["of"] for row in found] == ["NA", "mass"]
    assert [show_metric(row["threshold"]) for row in found] == ["0.400", "not computable"]
    assert show_metric(found[0]["sensitivity"]) == "0.800 (0.700 to 0.900)"
