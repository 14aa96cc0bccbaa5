"""The prefix of a log line in every form that TensorRT, trtexec and the Python bindings write."""

import re
from typing import NamedTuple

_LEVELS = {
    # Polygraphy writes TensorRT's verbose lines as [X], its own finer ones as [S] and [U], critical ones as [!].
    "X": "verbose", "S": "verbose", "U": "verbose", "!": "fatal",
    "V": "verbose", "I": "info", "W": "warning", "E": "error", "F": "fatal",
    "VERBOSE": "verbose", "INFO": "info", "WARNING": "warning", "ERROR": "error", "INTERNAL_ERROR": "fatal",
}  # fmt: skip

# In order: [date] then [V] / [TRT] in either order; [TensorRT] VERBOSE: and TensorRT VERBOSE / Severity.VERBOSE.
_TRTEXEC = re.compile(
    r"\s*\[?(?:\[(?P<time>\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d)\] )*"
    r"(?:\[(?P<level>[VIWEFXSU!])\](?: \[(?P<source>TRT(?:-RTX)?)\])?"
    r"|\[(?P<source2>TRT(?:-RTX)?)\] \[(?P<level2>[VIWEF])\])(?: |$)"
)
_PYTHON = re.compile(
    r"\s*(?:\[TensorRT\] (?P<level>VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR):"
    r"|TensorRT (?P<level2>VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR):?"
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +(?P<level4>VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR)\]"
    r"|(?P<level5>VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR): \[[\w -]*TensorRT[\w -]*\] -"
    r"|(?:ILogger\.)?Severity\.(?P<level3>VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR):?)(?: |$)"
)


class Prefix(NamedTuple):
    """`level` is "" for lines without a prefix; `trt` tells TensorRT's own lines from trtexec's; `time` as written."""

    level: str
    trt: bool
    time: str
    message: str


_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_INNER = re.compile(
    r"^.{1,80}?(?=(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?(?:\[[VIWEF]\] \[TRT\] |\[TRT\] \[[VIWEF]\] ))"
)
_FIRST = frozenset("[TSIVWE ")


def split_prefix(line: str) -> Prefix:
    """Prefix and message of `line` (no newline at its end). Colours are dropped; what a container runtime or a job
    system wrote before TensorRT's own prefix is too."""
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    if line[:1] in _FIRST:
        found = _TRTEXEC.match(line)
        if found:
            letter = found["level"] or found["level2"]
            source = found["source"] or found["source2"]
            return Prefix(_LEVELS[letter], source is not None, found["time"] or "", line[found.end() :])
        found = _PYTHON.match(line)
        if found:
            word = next(filter(None, found.groups()))
            return Prefix(_LEVELS[word], True, "", line[found.end() :])
    if "[TRT]" in line:
        inner = _INNER.match(line)
        if inner:
            return split_prefix(line[inner.end() :])
    return Prefix("", False, "", line)
