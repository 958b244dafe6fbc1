"""The parsers of the command line: options stand anywhere, a mistyped name is suggested, the help is in groups."""

import argparse
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class NamesParser(argparse.ArgumentParser):
    """The parser of the name of a stage or command.

    Parameters
    ----------
    headings : mapping
        By the first name of each group of the help, its heading; the names follow each other.
    **options
        Of `argparse.ArgumentParser`.
    """

    def __init__(self, headings: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.headings = headings

    def check_name(self, argv: Sequence[str], names: Sequence[str]) -> None:
        """Exit with the help if nothing is given, and with a suggestion if the name is unknown."""
        if not argv:
            self.print_help()
            self.exit(2)
        if argv[0] in names or argv[0].startswith("-"):
            return
        near = difflib.get_close_matches(argv[0], names, n=1)
        cure = f"did you mean '{near[0]}'?" if near else "`medadapt --help` lists all stages and commands"
        self.error(f"there is no stage or command '{argv[0]}'; {cure}")

    def format_help(self) -> str:
        """Write the help, with a heading above each group of names."""
        text = super().format_help()
        for name, heading in self.headings.items():
            text = re.sub(rf"^    {re.escape(name)} ", rf"\n  {heading}:\n\g<0>", text, count=1, flags=re.MULTILINE)
        return text


class CommandParser(argparse.ArgumentParser):
    """The parser of one stage or command, whose options may stand before, between and after its arguments."""

    _in_pass = False  # `parse_known_intermixed_args` calls `parse_known_args` for each of its two passes

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; exit with the usage of this command if one is unknown."""
        nested = any(action.nargs == argparse.PARSER for action in self._actions)
        if self._in_pass or nested:
            return super().parse_known_args(args, namespace)
        self._in_pass = True
        try:
            found, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._in_pass = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


class PrintCompletion(argparse.Action):
    """Print a completion script by shtab, e.g. `medadapt --print-completion bash`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        """Print the script and exit."""
        import shtab

        if values not in shtab.SUPPORTED_SHELLS:
            parser.error(f"--print-completion {values}: choose one of {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, str(values)))
        parser.exit()


def given(argv: Sequence[str] | None) -> list[str]:
    """Return the arguments, by default those of the process."""
    return list(sys.argv[1:] if argv is None else argv)
