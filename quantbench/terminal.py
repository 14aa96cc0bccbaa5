"""What reaches a terminal: names from files stay text there, whatever escape codes they hold."""

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# C0 without tab and newline, DEL, C1, the marks and overrides of bidirectional text, line and paragraph separators,
# lone surrogates. Sources: ECMA-48, section 5; Unicode Standard Annex 9 (and "Trojan Source", CVE-2021-42574).
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""`text` with each control character as its escape (`\x1b`, `\u202e`); tabs and newlines stay."""
    return _CONTROL.sub(lambda found: _escape(found[0]), text)


def one_line(text: str) -> str:
    r"""`printable`, and newlines and tabs as escapes too: a name in the middle of a sentence ends no line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text` and (with `nl`) a newline, control characters neutralised; JSON stays JSON."""
    stream, end = (sys.stderr if err else sys.stdout), "\n" if nl else ""
    try:
        print(printable(str(text)), file=stream, flush=True, end=end)
    except UnicodeEncodeError:
        # A terminal or pipe of another encoding shows what it can.
        encoding = stream.encoding or "ascii"
        shown = printable(str(text)).encode(encoding, "backslashreplace").decode(encoding)
        print(shown, file=stream, flush=True, end=end)


def console(*, stderr: bool = False, **settings: Any) -> "Console":
    """A Rich console on which a string is text: neither markup nor a control character of a name takes effect."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Plain(stderr=stderr, **{"markup": False, "highlight": False, **settings})


def _escape(character: str) -> str:
    code = ord(character)
    # Above C0 as JSON spells it, so that JSON which holds such a character stays JSON.
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
