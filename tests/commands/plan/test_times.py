"""How `plan` estimates the time of each stage: from records that still apply, else from measured steps."""

from dataclasses import replace

import pytest

from pipeline import costs, paths
from pipeline.commands.plan import run, times
from pipeline.commands.plan.measuring import Units
from pipeline.commands.plan.times import Cohort, Range, cohort_of, estimated, in_lines, in_words, recorded
from pipeline.imaging.geometry import Geometry
from tests.commands.plan.changing import changed

GEOMETRY = Geometry("image", 64, 1, 1, None, "pad", "keep")
UNITS = Units(
    start=3.0,
    case=0.01,
    second=0.0,
    view=0.02,
    epoch={"last_stage": 0.01, "lp_ft": 0.02, "full": 0.1},
    passes={"last_stage": 0.5, "lp_ft": 1.0, "full": 3.0},
    probe=1.0,
    summary=0.1,
    scale=0.25,
)
COHORT = Cohort(100, lambda fold: (60.0, 20.0, 20.0))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def estimate(stage, units=UNITS, **changes):
    return estimated((stage, "0"), units, changed(**changes), COHORT, reading=(0.5, 1.0))


def record(stage, seconds, params, **facts):
    values = {"seconds": seconds, "settings": costs.workload(stage, params), "cases": 100, "size": [64, 1]}
    paths.write_json(values | facts, paths.cost(stage, "0"))


def found(stage, params, cases=100):
    return recorded((stage, "0"), params, GEOMETRY, cases=cases, start=4.0)


def test_a_record_gives_the_time_if_its_settings_are_the_present_ones(here):
    record("finetune", 94.5, changed())
    took = 94.5 + 4.0 * times.START + times.DVC_SECONDS
    assert found("finetune", changed()) == Range(took * 0.8, took * 1.25, recorded=True)
    assert found("finetune", changed(release={"name": "other"})) is not None
    assert found("finetune", changed(finetune={"epochs": 3})) is None


def test_twice_the_cases_take_twice_the_recorded_time(here):
    record("finetune", 100.0, changed())
    assert found("finetune", changed(), cases=200).low == 0.8 * (200 + 4.0 * times.START + times.DVC_SECONDS)


def test_a_record_of_another_size_or_of_an_older_version_does_not_count(here):
    assert found("finetune", changed()) is None
    record("finetune", 100.0, changed(), size=[128, 1])
    assert found("finetune", changed()) is None
    paths.write_json({"seconds": 100.0, "peak_mib": 9}, paths.cost("finetune", "0"))
    assert found("finetune", changed()) is None


def test_every_stage_takes_at_least_its_start():
    for stage in ("split", "report"):
        assert estimate(stage).low == pytest.approx(3.0 * times.LIGHT_START + times.DVC_SECONDS)
    assert estimate("explain").low > 3.0 * times.START + times.DVC_SECONDS


def test_scans_are_read_by_several_processes(monkeypatch):
    monkeypatch.setenv("MEDADAPT_WORKERS", "2")
    assert estimate("preprocess").high == pytest.approx(2 * 3.0 * times.START + times.DVC_SECONDS + 1.4 * 100 * 1.0 / 2)


def test_a_fixed_strategy_takes_from_its_patience_to_a_multiple_of_it():
    probe, trained = (
        estimate("finetune", finetune={"strategy": "probe"}),
        estimate("finetune", finetune={"strategy": "lp_ft"}),
    )
    patience = changed().finetune.patience
    assert trained.low - probe.low == pytest.approx(0.7 * (patience + 1) * 60 * 0.02)
    assert trained.high - probe.high == pytest.approx(1.4 * 3 * patience * 60 * 0.02)


def test_auto_may_spend_its_budget_and_without_one_only_fits_probes():
    small, large = (estimate("finetune", finetune={"strategy": "auto", "budget": budget}) for budget in (0, 100_000))
    start = 3.0 * times.START + times.DVC_SECONDS
    assert (small.low - start) / 0.7 == pytest.approx((small.high - start) / 1.4) and large.high > 2 * small.high
    assert large.low > small.low  # the first candidate is tried in any case


def test_a_candidate_that_does_not_fit_the_budget_is_not_counted():
    names = [name for name, _ in times.search(UNITS, 60, 400, 6, by=7)]
    assert names == ["last_stage", "lp_ft"]  # 2 x 60 cases x passes x 0.25 x 6 epochs: 90, 180, then 540 of the rest
    assert times.search(UNITS, 60, 80, 6, by=7) == []
    dear = replace(UNITS, passes=UNITS.passes | {"last_stage": 9.0})
    assert [name for name, _ in times.search(dear, 60, 400, 6, by=7)] == ["lp_ft"]  # `finetune` goes on, too


@pytest.mark.parametrize(
    ("stage", "less", "more"),
    [
        ("adapt", {"adapt": {"method": "none"}}, {"adapt": {"method": "adabn"}}),
        ("adapt", {"adapt": {"method": "adabn"}}, {"adapt": {"method": "auto"}}),
        ("adapt", {"adapt": {"method": "auto", "candidates": ["adabn"]}}, {"adapt": {"method": "auto"}}),
        ("adapt", {"adapt": {"method": "adabn"}}, {"adapt": {"method": "simclr"}}),
        ("evidence", {}, {"evidence": {"budget": 10_000}}),
        ("evidence", {"evidence": {"draws": 1}}, {"evidence": {"draws": 9}}),
        ("explain", {}, {"explain": {"method": "occlusion"}}),
        ("release", {"release": {"exports": []}}, {}),
    ],
)
def test_what_a_stage_has_to_do_is_counted(stage, less, more):
    assert estimate(stage, **less).high < estimate(stage, **more).high


def test_cases_of_a_fold_follow_the_parameters_before_the_split(here):
    counted = cohort_of(100, changed(split={"test": "none", "n_folds": 5, "validation_fraction": 0.25}))
    assert counted.of_fold("0") == pytest.approx((60.0, 20.0, 20.0))
    assert counted.of_fold("final") == pytest.approx((75.0, 25.0, 0.0))


def test_stages_have_a_line_each_and_the_total_comes_first():
    lines = in_lines(
        {
            ("adapt", "0"): Range(10, 20, recorded=True),
            ("adapt", "1"): Range(10, 20, recorded=True),
            ("calibrate", ""): Range(100, 160),
        }
    )
    assert lines == [
        "time, about: 2 to 3 min if nothing else runs on this machine",
        "  adapt       20 to 40 s, 2 folds (as in the last run)",
        "  calibrate   2 to 3 min (measured)",
    ]
    assert in_lines({("adapt", "0"): Range(10, 20, recorded=True)})[0] == "time, about: 10 to 20 s"
    assert in_lines({}) == ["time: nothing would run"]
    folds = {("finetune", name): Range(10, 20, recorded=True) for name in "01234"}
    said = in_lines(folds | {("split", ""): Range(5, 5, recorded=True)}, at_once=2)[0]  # three rounds of two
    assert said == "time, about: 55 to 105 s; 35 to 65 s with `medadapt run`, which trains 2 folds at a time"
    assert in_words(Range(0.2, 0.4)) == "1 s"


def test_nothing_is_measured_if_every_record_applies(here, monkeypatch):
    record("finetune", 10.0, changed())
    monkeypatch.setattr(run, "measured", None)
    known = run.times_of([("finetune", "0")], changed(), GEOMETRY, cases=100, network=None, start=1.0)
    assert known[("finetune", "0")].recorded


def test_records_and_measured_steps_stand_beside_each_other(here, monkeypatch):
    record("finetune", 10.0, changed())
    monkeypatch.setattr(run, "measured", lambda *_, **__: replace(UNITS, start=1.0))
    monkeypatch.setattr(run, "reading_seconds", lambda *_: (0.1, 0.2))
    jobs = [("calibrate", ""), ("finetune", "0")]
    known = run.times_of(jobs, changed(), GEOMETRY, cases=100, network=None, start=1.0)
    assert list(known) == jobs and [one.recorded for one in known.values()] == [False, True]


def test_a_second_encoder_runs_on_every_case_and_its_mirror_image():
    settings = {"strategy": "portfolio", "members": ["probe"], "preset": "quick"}
    with_it, without = (estimate("finetune", replace(UNITS, second=one), finetune=settings) for one in (0.1, 0.0))
    passes = 2 * (60 + 20) + 2 * 20  # training cases with their mirror images, then scored cases with theirs
    probe = 1.0 * 60 * 2 / 1000
    assert with_it.high - without.high == pytest.approx(1.4 * (passes * 0.1 + probe))
