"""Open a bundle and serve its page on this machine."""

import argparse
import fcntl
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from pipeline.bundle.layout import CARD
from pipeline.commands.answer_words import measured
from pipeline.commands.answering import Answered, Answering, answering
from pipeline.commands.dicom_objects import require_highdicom
from pipeline.commands.ledger import Ledger, outcome_of
from pipeline.errors import UserError
from pipeline.stages.report.page import HERE, digest_of, templates

GIB = 2**30
PREFIX = "medadapt-serve-"


def run(arguments: argparse.Namespace) -> None:
    """Serve until the command is ended."""
    require_highdicom("serve")
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise UserError("serve needs starlette and uvicorn: pip install 'medadapt[clinic]'")
    if arguments.max_upload <= 0:
        raise UserError(f"--max-upload is {arguments.max_upload:g}; choose a size above 0 GiB")
    import uvicorn

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that uploads are removed
    from pipeline.commands.serve.application import Service

    ledger = Ledger(Path(arguments.ledger)) if arguments.ledger else None
    with (
        listening(arguments.port) as listener,
        nullcontext() if ledger is None else ledger,
        answering(arguments, "serve") as answer,
        scratch() as place,
    ):
        port = listener.getsockname()[1]
        page, policy = page_of(answer)
        service = Service(
            answer,
            page,
            policy=policy,
            most_bytes=int(arguments.max_upload * GIB),
            port=port,
            folder=place,
            keep=None if ledger is None else kept_in(ledger, answer),
        )
        print(f"{answer.model.title} ({answer.model.status}); research use only, not a medical device")
        print(f"open http://127.0.0.1:{port}/?token={service.token}", flush=True)
        print("Ctrl+C ends it")
        config = uvicorn.Config(
            service.application(), log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=5
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again that ended it
            uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """Listen on this machine alone."""
    with socket.socket() as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
            one.listen(128)
        except (OSError, OverflowError) as error:
            raise UserError(f"--port {port} cannot be used ({error}); choose another one, or leave it out") from error
        yield one


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a private folder for uploads, and remove those that killed processes left."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with (old / "lock").open("a") if (old / "lock").is_file() else nullcontext() as lock:
            try:
                if lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
            except OSError:  # in use
                continue
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, (Path(folder) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


def page_of(answer: Answering) -> tuple[str, str]:
    """Fill the page; return it with its Content-Security-Policy, which lets only its own script run."""
    here, bundle = Path(__file__).parent, answer.bundle
    script = (here / "page.js").read_text()
    card = bundle.folder / CARD
    page = (
        templates(here, here.parent)
        .get_template("serve.html")
        .render(
            style=Markup((HERE / "page.css").read_text() + (here / "page.css").read_text()),  # our own files
            script=Markup(script),
            title=answer.model.title,
            sha256=answer.model.sha256,
            status=bundle.status,
            know_before_use=bundle.know_before_use,
            classes=bundle.classes,
            point=bundle.operating_point,
            measured=measured(bundle.operating_point),
            multilabel=bundle.multilabel,
            recalibrated=answer.predictor.site_calibration is not None,
            volumes=bundle.kind == "volume",
            card=card.read_text(errors="replace") if card.is_file() else "",
        )
    )
    policy = f"default-src 'none'; script-src '{digest_of(script)}'; style-src 'unsafe-inline'; connect-src 'self'"
    return page, f"{policy}; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def kept_in(ledger: Ledger, answer: Answering) -> Callable[[list[Answered]], None]:
    """Note answers under pseudonyms."""

    def keep(found: list[Answered]) -> None:
        for one in found:
            saw = one.found.output.prepared.channels.tobytes().hex() if one.found.output else one.scan.name
            key = ledger.pseudonym("case", f"{answer.model.sha256}/{saw}")
            if key in ledger:
                continue
            row = one.row | {"scan": key}
            model = {"model": answer.model.title, "sha256": answer.model.sha256}
            ledger.add(key, outcome_of([one.found]), one.found.reason, **model, scans=[row])

    return keep
