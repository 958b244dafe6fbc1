"""Show control characters of texts that others wrote, instead of letting a terminal or a page obey them."""

import re
from typing import Any, TextIO

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # all but tab and the end of a line
SCHEME = re.compile(r"(\]\(\s*|\]:\s*)(javascript|vbscript|data)(\s*):", re.IGNORECASE)


def printable(text: str) -> str:
    r"""Write control characters, and those that turn the direction of text, as escapes.

    >>> printable("ill\x1b[2K")
    'ill\\x1b[2K'
    """
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def inert(value: Any) -> Any:
    """Take HTML, links that run code and control characters out of a text for a Markdown page.

    >>> inert("<b> [x](javascript:y)")
    '&lt;b> [x](javascript&#58;y)'
    """
    if not isinstance(value, str):
        return value
    return SCHEME.sub(r"\1\2\3&#58;", printable(value).replace("<", "&lt;"))


class Printable:
    """A stream that shows the control characters in what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text; a carriage return before the end of a line stays."""
        self.stream.write(printable(text.replace("\r\n", "\n")))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
