"""Times until an event: what a table may hold, and the times of the demo's patients."""

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.__main__ import main
from pipeline.imaging.labels import targets_of, times_of
from pipeline.stages.cohort.simulation.recipe import Recipe
from pipeline.stages.cohort.simulation.scan import lesion_volume, plan_scans, simulate
from pipeline.stages.cohort.simulation.times import censoring_rate, drawn_time, hazard_of
from pipeline.stages.cohort.times import problems_of_times, with_times
from tests.conftest import ROOT


def table_of(rows, split=""):
    """Eleven patients with the event, and further rows of time and event."""
    sound = [(f"{time}.5", "1") for time in range(1, 12)]
    known = [(f"p{number}", *row, split) for number, row in enumerate([*sound, *rows])]
    return pd.DataFrame(known, columns=["patient_id", "time", "event", "split"])


@pytest.mark.parametrize(
    ("time", "event", "said"),
    [
        ("soon", "1", "row 12, column 'time': it is no number"),
        ("12,5", "1", "decimal point"),
        ("inf", "0", "not finite"),
        ("-3", "1", "it is negative; count the time from the day of the scan"),
        ("0", "1", "it is 0; an event at the start cannot be predicted"),
        ("", "1", "an event without a time; write the time"),
        ("", "0", "an event without a time"),
        ("", "", "the time is missing; write time and event, or unlabelled"),
        ("3", "", "row 12, column 'event': there is a time without an event"),
        ("3", "2", "competing risks"),
        ("3", "yes", "neither 0 nor 1; write 1 for the event, 0 for censored"),
        ("3", "-1", "neither 0 nor 1"),
    ],
)
def test_a_bad_time_or_event_is_refused_with_its_row_and_cure(time, event, said):
    (message,) = problems_of_times(table_of([(time, event)]), ROOT / "cohort.csv")
    assert said in message and str(ROOT / "cohort.csv") in message
    assert len(time) < 3 or time == "inf" or time not in message.replace("12.5", "")


def test_an_unlabelled_case_needs_no_time():
    table = pd.concat([table_of([]), table_of([("", "")], "unlabelled").tail(1)], ignore_index=True)
    assert problems_of_times(table, ROOT) == []
    assert with_times(table)["label"].iloc[-1] == ""


def test_too_few_events_or_columns_are_refused():
    censored = table_of([]).assign(event="0")
    assert "no case has the event" in problems_of_times(censored, ROOT)[0]
    few = table_of([]).assign(event=["1"] * 9 + ["0"] * 2)
    assert "only 9 patient(s) have the event; survival needs 10" in " ".join(problems_of_times(few, ROOT)).replace(
        "event: ", ""
    )
    assert "one time only" in problems_of_times(table_of([]).assign(time="4"), ROOT)[0]
    assert "lacks the column event" in problems_of_times(table_of([]).drop(columns="event"), ROOT)[0]


def test_scans_of_one_patient_have_one_time():
    table = table_of([("1.50", "1")])
    table.loc[11, "patient_id"] = "p0"
    assert problems_of_times(table, ROOT) == []
    table.loc[11, "event"] = "0"
    (message,) = problems_of_times(table, ROOT)
    assert (
        "rows 1, 12: scans of one patient differ in time or event" in message and "keep the scan of that day" in message
    )


def test_what_is_predicted_is_no_column_of_the_model():
    (message,) = problems_of_times(table_of([]).assign(column_time="1"), ROOT)
    assert "column 'time' is what the model predicts" in message


def test_labels_of_times_are_read_as_they_were_written():
    labels = with_times(table_of([("7", "0"), ("2.50", "1.0")]))["label"].tolist()
    assert labels[-2:] == ["7.0+", "2.5"]
    time, event = times_of([*labels[-2:], ""])
    np.testing.assert_array_equal(time, [7, 2.5, np.nan])
    assert event.tolist() == [False, True, False]
    np.testing.assert_array_equal(targets_of([*labels[-2:], ""], ["log_hazard"], "survival")[:, 0], [-7, 2.5, np.nan])


def test_an_import_keeps_time_and_event_and_proposes_the_task(tmp_path):
    for number in range(4):
        Image.fromarray(np.full((8, 8), 50 * number, np.uint8)).save(tmp_path / f"{number}.png")
    rows = [(f"{number}.png", f"p{number}", str(1000 + number), str(number % 2)) for number in range(4)]
    table = pd.DataFrame(rows, columns=["image", "who", "time", "event"])
    table.to_csv(tmp_path / "scans.csv", index=False)
    into = tmp_path / "cohort"
    assert main(["import", "csv", str(tmp_path / "scans.csv"), "--into", str(into), "--patient", "who"]) == 0
    written = pd.read_csv(into / "cohort.csv", dtype=str)
    assert written["time"].tolist() == ["1000", "1001", "1002", "1003"] and set(written["event"]) == {"0", "1"}
    proposed = yaml.safe_load((into / "cohort.yaml").read_text())
    assert proposed["cohort"] == {"task": "survival", "unit": ""} and proposed["calibrate"]["baseline"] == []


@pytest.fixture
def recipe():
    values = yaml.safe_load((ROOT / "data/demo/recipe.yaml").read_text())
    for site in values["sites"].values():
        site |= {"patients": {"development": 4, "unlabelled": 1}, "voxel_mm": [8, 8, 16], "lesion_share": 0.7}
    return values


def test_times_change_no_scan_of_the_demo_and_belong_to_a_patient(recipe):
    as_classes, as_times = (plan_scans(Recipe(**recipe, label=label)) for label in ("class", "time"))
    np.testing.assert_array_equal(simulate(as_classes[1]).get_fdata(), simulate(as_times[1]).get_fdata())
    rows = pd.DataFrame([job.row for job in as_times])
    assert "label" not in rows and (rows.groupby("patient_id")["time"].nunique() == 1).all()
    unlabelled = rows["split"] == "unlabelled"
    assert (rows.loc[unlabelled, ["time", "event"]] == "").all(axis=None)
    assert (rows.loc[~unlabelled, "time"].astype(float) > 0).all() and set(rows["event"]) == {"", "0", "1"}


@pytest.mark.parametrize("shape", [1.0, 1.8])
@pytest.mark.parametrize("censored", [0.0, 0.3, 0.6])
def test_simulated_times_have_hazard_and_censoring_of_the_recipe(recipe, shape, censored):
    """The expectation of the cumulative hazard at the observed time is the probability of an event."""
    times = Recipe(**recipe, times={"shape": shape, "censored": censored, "hazard_ratio": 2.0, "scale": 40}).times
    rng, volumes = np.random.default_rng(0), np.linspace(0, 50, 20000)
    rate = censoring_rate(volumes, times)
    drawn = [drawn_time(volume, rate, times, rng) for volume in volumes]
    time, event = np.array([one for one, _ in drawn]), np.array([one for _, one in drawn])
    assert 1 - event.mean() == pytest.approx(censored, abs=0.015)
    hazards = np.array([hazard_of(volume, times) for volume in volumes])
    for part in (volumes < 15, volumes > 35):
        cumulative = hazards[part] * (time[part] / 40) ** shape
        assert cumulative.sum() == pytest.approx(event[part].sum(), abs=4 * np.sqrt(event[part].sum()))


def test_more_lesions_shorten_the_time(recipe):
    jobs = plan_scans(Recipe(**recipe, label="time", times={"hazard_ratio": 5.0, "censored": 0.0}))
    known = [(lesion_volume(job), float(job.row["time"])) for job in jobs if job.split != "unlabelled"]
    volumes, times = np.array(known).T
    assert np.median(times[volumes > 20]) < np.median(times[volumes == 0]) / 5
