"""The web application: who is let in, how much at once, and what is left behind (nothing)."""

import asyncio
import json
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.commands.answering import Answered, Answering
from pipeline.commands.serve.answers import answers_of
from pipeline.commands.serve.reading_on import ReadOn
from pipeline.commands.serve.upload import Rejected, receive, scans_of, too_large
from pipeline.imaging.tables.scan_list import Kind

MOST_WAITING = 64  # requests; further ones are told to come back
AT_ONCE = 2  # uploads that are received at a time; the others wait before their body is read
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Handler = Callable[[Request], Awaitable[Response]]
Keep = Callable[[list[Answered]], None]


class Service:
    """Answer uploads one after another.

    Parameters
    ----------
    answer : Answering
    page : str
        HTML.
    policy : str
        Content-Security-Policy of the page.
    most_bytes : int
        Of an upload.
    port : int
    folder : Path
        Where uploads lie while they are answered.
    keep : callable
        Takes the answers of an upload, to note them in a ledger.
    """

    def __init__(
        self,
        answer: Answering,
        page: str,
        *,
        policy: str,
        most_bytes: int,
        port: int,
        folder: Path,
        keep: Keep | None = None,
    ) -> None:
        self.answer, self.page, self.policy = answer, page, policy
        self.most_bytes, self.folder, self.keep = most_bytes, folder, keep
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.slots, self.predicting = asyncio.Semaphore(AT_ONCE), asyncio.Lock()
        self.waiting = 0

    def application(self) -> Starlette:
        """Build the application of two routes."""
        routes = [
            Route("/", self.guarded(self.show)),
            Route("/answer", self.guarded(self.take), methods=["POST"]),
        ]
        return Starlette(routes=routes, middleware=[Middleware(ReadOn)])

    def guarded(self, handler: Handler) -> Handler:
        """Let in only requests to this machine, of this page, with the token; explain every other answer."""

        async def guard(request: Request) -> Response:
            if why := self.objection(request):
                return JSONResponse({"error": why}, 403, HEADERS | {"Connection": "close"})
            try:
                response = await handler(request)
            except Rejected as error:
                return JSONResponse({"error": str(error)}, error.status, HEADERS | {"Connection": "close"})
            except ClientDisconnect:
                return Response(status_code=400)
            response.headers.update(HEADERS)
            return response

        return guard

    def objection(self, request: Request) -> str:
        """Say why a request is not answered; "" if it is."""
        if request.headers.get("host") not in self.hosts:
            return "this address is not that of the page; use the one that medadapt printed"
        origin = request.headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return "another page asks; open the address that medadapt printed"
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "another page asks; open the address that medadapt printed"
        given = request.headers.get("x-token") or request.query_params.get("token") or ""
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong; open the address that medadapt printed"
        return ""

    async def show(self, request: Request) -> Response:
        """Send the page."""
        return HTMLResponse(self.page, headers={"Content-Security-Policy": self.policy})

    async def take(self, request: Request) -> Response:
        """Answer an upload; the body is read when it is its turn."""
        if int(request.headers.get("content-length") or 0) > self.most_bytes + 2**20:
            raise Rejected(413, too_large(self.most_bytes))
        if self.waiting >= MOST_WAITING:
            raise Rejected(503, "too many scans are waiting; send it again in a minute")
        self.waiting += 1
        try:
            async with self.slots:
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    received = await receive(request.stream(), Path(folder), self.most_bytes)
                    async with self.predicting:
                        content = await run_in_threadpool(self.work, received, Path(folder))
        finally:
            self.waiting -= 1
        return Response(content, media_type="application/json")

    def work(self, received: Any, folder: Path) -> bytes:
        """Answer the scans of an upload."""
        kind: Kind = "volume" if self.answer.bundle.kind == "volume" else "image"
        scans, dropped = scans_of(received, folder, kind, self.most_bytes)
        if not scans and not dropped:
            raise Rejected(400, "no file was sent; choose a scan")
        shown, found = answers_of(scans, dropped, self.answer)
        if self.keep:
            self.keep(found)
        return json.dumps(shown).encode()
