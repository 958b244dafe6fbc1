"""What a stage says while it runs: on a terminal, in logs, and in the file that `status` reads."""

import io
import logging
import sys
import time

import pytest

from pipeline import progress
from pipeline.commands.stage_states import Line
from pipeline.commands.status.run import cells_of
from pipeline.progress import AboveBar, Loop, State, activity, duration, position, reported


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def quick(monkeypatch):
    """Report every few milliseconds, as if half a minute had passed."""
    monkeypatch.setattr(progress, "TICK", 0.005)
    monkeypatch.setattr(progress, "EVERY", 0.01)


def wait_for(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_a_step_without_a_loop_is_reported_in_logs(quick, caplog):
    caplog.set_level(logging.INFO, "pipeline")
    with reported("stage 16 of 20, calibrate", usual=100):
        wait_for(lambda: "stage 16 of 20, calibrate (0 s so far, about 1 min 40 s left)" in caplog.messages)


def test_a_loop_is_reported_with_its_count_and_the_activity(quick, caplog):
    caplog.set_level(logging.INFO, "pipeline")
    with reported("split"):
        activity("candidate lp_ft (4 of 5), part 1 of 3, epoch 2")
        for item in progress.progress(range(3), "score 0"):
            if item == 1:
                wait_for(lambda: any("epoch 2; score 0: 1 of 3, about 0 s left" in line for line in caplog.messages))
    with reported("split"):
        assert any(line.startswith("split: candidate lp_ft (4 of 5), part 1") for line in caplog.messages)
        wait_for(lambda: "split (0 s so far)" in caplog.messages)  # the next block begins without them


def test_the_state_stands_in_a_file_until_the_end(quick, tmp_path):
    file = tmp_path / "now" / "finetune_0"
    with reported("finetune", file):
        activity("candidate last_stage (3 of 5)")
        wait_for(lambda: file.exists() and file.read_text() == "candidate last_stage (3 of 5)")
    assert not file.exists()


def test_the_bar_on_a_terminal_is_erased_before_a_line_and_at_the_end(quick, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with reported("stage 3 of 20, split", usual=60):
        wait_for(lambda: "stage 3 of 20, split:   0%|" in terminal.getvalue())
        AboveBar(terminal).write("a finding\n")
        wait_for(lambda: "0%|" in terminal.getvalue().partition("a finding")[2])
    assert f"{progress.ERASE}a finding\n" in terminal.getvalue()
    assert terminal.getvalue().endswith(progress.ERASE)


def test_a_bar_counts_the_outer_loop_or_the_time_of_an_earlier_run():
    state = State("explain", usual=None)
    assert state.bar(80) == "explain [0 s]"
    state.loops = [Loop("cases", 4, done=1), Loop("inner", 9, done=9)]
    assert state.bar(80).startswith("explain: cases; inner:  25%|") and len(state.bar(80)) <= 80


def test_output_that_goes_to_a_file_holds_nothing_of_the_bar(quick, monkeypatch):
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", file)
    with reported("show"):
        wait_for(lambda: "show" in terminal.getvalue())
        print("{}")
    assert file.getvalue() == "{}\n"


def test_items_of_a_loop_come_unchanged_and_a_break_ends_it():
    assert list(progress.progress(iter("abc"), "letters")) == ["a", "b", "c"]
    for _ in progress.progress("abc", "letters"):
        break
    assert progress._state.loops == []


def test_a_stage_knows_its_position_among_stages_and_folds():
    jobs = [("split", ""), ("adapt", "0"), ("adapt", "final"), ("calibrate", "")]
    assert position(("calibrate", ""), jobs) == "stage 4 of 4, calibrate"
    assert position(("adapt", "final"), jobs) == "stage 3 of 4, adapt, fold final (2 of 2)"
    assert position(("adapt", "no such"), jobs) == "adapt, fold no such"


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, ""), (0.4, "0 s"), (59.7, "1 min 0 s"), (125, "2 min 5 s"), (7384, "2 h 3 min")]
)
def test_seconds_are_written_as_a_person_says_them(seconds, said):
    assert duration(seconds) == said
    assert cells_of(Line("split", ("",), "done", "", None, seconds))[4] == said
