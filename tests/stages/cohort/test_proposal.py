"""Settings that `medadapt import` proposes for a table."""

import pandas as pd
import yaml

from pipeline.stages.cohort.proposal import proposed_settings


def table(sites):
    rows = [(str(number), "", "ab"[number % 2], site, "") for number, site in enumerate(sites)]
    return pd.DataFrame(rows, columns=["case_id", "patient_id", "label", "site", "split"])


def test_the_smallest_site_is_the_example_of_an_external_test_set():
    assert "`test_sites: [anna]`" in proposed_settings(table(["zoe"] * 5 + ["anna"] * 2 + ["mia"] * 4))
    assert "test_sites" not in proposed_settings(table(["zoe"] * 4))


def test_a_proposal_is_settings_with_a_reason_for_each():
    text = proposed_settings(table(["zoe"] * 4))
    assert yaml.safe_load(text)["cohort"]["classes"] == ["a", "b"]
    keys = [line for line in text.splitlines() if line.startswith("  ") and "#" not in line]
    assert len(keys) == text.count("\n  # ")
