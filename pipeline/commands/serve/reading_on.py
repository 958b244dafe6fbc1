"""Read on after an answer, so that a client that is still sending gets it."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 60.0  # seconds
QUIET = 5.0  # seconds without a byte


class ReadOn:
    """Drop what is left of a request's body between the answer and its end.

    A server that closes a connection with unread bytes resets it, and the client loses an answer such as "too large".
    Nothing is kept of the bytes. A client that goes on for more than `LONGEST` seconds, or is silent for `QUIET`, is
    cut off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        waits = (b"expect", b"100-continue") in scope.get("headers", ())  # sends no body before it is asked to
        ended = scope["type"] != "http" or waits

        async def noted() -> Message:
            nonlocal ended
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        async def held(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False) and not ended:
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(LONGEST):
                        while not ended:
                            await asyncio.wait_for(noted(), QUIET)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, noted, held)
