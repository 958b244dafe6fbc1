"""Answer new series of an archive or a folder, each once, until the command is ended."""

import argparse
import shutil
import tempfile
import time
from collections import Counter
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from pipeline.bundle.dicom_results.source import NoSource
from pipeline.commands.answering import Answering, answering
from pipeline.commands.dicom_objects import require_highdicom
from pipeline.commands.ledger import Ledger, Outcome, outcome_of
from pipeline.commands.listen.series import Away, Failed, Place, Series
from pipeline.commands.listen.watched_folder import WatchedFolder
from pipeline.commands.series_files import without_others
from pipeline.commands.series_rule import Rule, rule_of
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Kind, Listed, list_scans
from pipeline.imaging.tables.text_table import BadTable

TRIES = 3  # for a series that the archive does not deliver, or whose results it does not take
LONGEST_WAIT = 300.0  # seconds between two questions to an archive that is away


def run(arguments: argparse.Namespace) -> None:
    """Answer series until the command is ended, or with --once until none is left."""
    require_highdicom("listen")
    since = date_of(arguments.since)
    place = place_of(arguments, since)
    with Ledger(Path(arguments.ledger)) as ledger, answering(arguments, "listen") as answer:
        rule = rule_of(arguments.modality, arguments.description, answer.bundle.kind, since)
        print(f"{answer.model.title} ({answer.model.status}) listens; research use only, not a medical device")
        listener = Listener(place, answer, ledger, rule)
        try:
            listener.listen(arguments.every, once=arguments.once)
        except KeyboardInterrupt:
            print("ended")
        print(f"series in the ledger: {len(ledger)}; this time {listener.summary()}")


def place_of(arguments: argparse.Namespace, since: str) -> Place:
    """Open the archive or the folder."""
    if arguments.watch:
        folder = Path(arguments.watch)
        if not folder.is_dir():
            raise UserError(f"--watch: there is no folder {folder}; create it")
        if not arguments.results:
            raise UserError("--watch needs --results, the folder for the DICOM objects")
        results = Path(arguments.results)
        results.mkdir(parents=True, exist_ok=True)
        return WatchedFolder(folder, results)
    if arguments.results:
        raise UserError("--results belongs to --watch; an archive gets the results itself")
    if find_spec("dicomweb_client") is None:
        raise UserError("--archive needs dicomweb-client: pip install 'medadapt[clinic]'")
    from pipeline.commands.listen.archive import Archive

    return Archive(arguments.archive, since)


def date_of(text: str | None) -> str:
    """Read a date such as 2026-11-01 as DICOM writes it."""
    try:
        return date.fromisoformat(text).strftime("%Y%m%d") if text else ""
    except ValueError as error:
        raise UserError(f"--since {text}: write a date as 2026-11-01") from error


class Listener:
    """Answer the series of a place that are not in the ledger."""

    def __init__(self, place: Place, answer: Answering, ledger: Ledger, rule: Rule) -> None:
        self.place, self.answer, self.ledger, self.rule = place, answer, ledger, rule
        self.counts, self.tries, self.arriving = Counter[str](), Counter[str](), dict[str, str]()
        self.scratch = ledger.folder / "scratch"  # emptied at the start: a killed process leaves images here
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(mode=0o700)

    def listen(self, every: float, *, once: bool) -> None:
        """Ask again and again; wait longer while the archive is away."""
        wait = every
        while True:
            try:
                left = self.ask()
                wait = every
            except (Away, Failed) as error:
                print(f"the archive is away ({error}); asking again in {wait:.0f} s")
                left, wait = 1, min(2 * max(wait, 1.0), LONGEST_WAIT)
            if once and not left:
                return
            time.sleep(wait)

    def ask(self) -> int:
        """Work on every series that no longer grows; return how many are left for the next time."""
        pending = {key: one for one in self.place.series() if not one.is_ours and (key := self.key(one))}
        pending = {key: one for key, one in pending.items() if key not in self.ledger}
        ready = [key for key, one in pending.items() if self.arriving.get(key) == one.state]
        self.arriving = {key: one.state for key, one in pending.items()}
        for key in ready:
            self.work(key, pending[key])
        return sum(key not in self.ledger for key in pending)

    def key(self, series: Series) -> str:
        """Name the work: this series, by this model."""
        return self.ledger.pseudonym("case", f"{self.answer.model.sha256}/{series.name}")

    def work(self, key: str, series: Series) -> None:
        """Answer or refuse a series, store its results, then write its line."""
        if why := self.rule.objection(series.modality, series.description, series.date):
            self.note(key, series, "left out", why)
            return
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            try:
                self.place.fetch(series, Path(folder))
                self.answer_all(key, series, Path(folder))
            except Failed as error:
                self.tries[key] += 1
                if self.tries[key] >= TRIES:
                    self.note(key, series, "refused", f"after {TRIES} tries: {error}")

    def answer_all(self, key: str, series: Series, folder: Path) -> None:
        """Answer the scans of a series whose files are in a folder."""
        dropped = without_others(folder)
        remark = "; ".join(f"not part of the scan: {why} ({count})" for why, count in dropped.items())
        try:
            listed = list_scans(folder, self.kind)
        except BadTable:
            self.note(key, series, "left out", remark or "it holds no image")
            return
        patient = {"patient": self.ledger.pseudonym("patient", series.patient)} if series.patient else {}
        found = []
        for number, one in enumerate(listed, 1):
            name = key if len(listed) == 1 else f"{key}-{number}"
            answered = self.answer(Listed(name, one.file, patient))
            try:
                self.place.store(series, self.answer.objects_of(answered), name)
                found.append((answered, ""))
            except NoSource as error:
                found.append((answered, str(error)))
        outcome = outcome_of([one.found for one, _ in found])
        reasons = {one.found.reason or why for one, why in found} | {remark}
        self.note(key, series, outcome, "; ".join(sorted(reasons - {""})), scans=[one.row for one, _ in found])

    @property
    def kind(self) -> Kind:
        """Whether the model takes volumes or images."""
        return "volume" if self.answer.bundle.kind == "volume" else "image"

    def note(self, key: str, series: Series, outcome: Outcome, reason: str, **values: object) -> None:
        """Write the line of a series."""
        names = {"patient": series.patient, "accession": series.accession}
        known = {kind: self.ledger.pseudonym(kind, name) for kind, name in names.items() if name}
        model = {"model": self.answer.model.title, "sha256": self.answer.model.sha256}
        self.ledger.add(key, outcome, reason, modality=series.modality, **known, **model, **values)
        self.counts[outcome] += 1
        print(f"{key}: {outcome}{': ' + reason if reason else ''}")

    def summary(self) -> str:
        """Count the outcomes."""
        return ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items()) or "none"
