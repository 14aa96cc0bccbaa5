"""The prefix of a log line in every form that TensorRT, trtexec, the Python bindings and programs around them write.

A prefix is a run of parts: dates, a level, TensorRT's name, the source file of the ONNX parser. Programs that hand
TensorRT's lines on (Triton, DeepStream, onnxruntime, TensorFlow, Torch-TensorRT, jetson-inference, ROS, docker
compose) write their own part before or in place of these.
"""

import re
from typing import NamedTuple

_LEVELS = {
    # Polygraphy writes TensorRT's verbose lines as [X], its own finer ones as [S] and [U], critical ones as [!].
    "X": "verbose", "S": "verbose", "U": "verbose", "!": "fatal",
    "V": "verbose", "I": "info", "W": "warning", "E": "error", "F": "fatal",
    "VERBOSE": "verbose", "INFO": "info", "WARNING": "warning", "ERROR": "error", "INTERNAL_ERROR": "fatal",
    "DEBUG": "verbose", "GRAPH": "verbose", "WARN": "warning", "FATAL": "fatal",
}  # fmt: skip
_WORDS = "VERBOSE|INFO|WARNING|WARN|ERROR|INTERNAL_ERROR|DEBUG|GRAPH|FATAL"
_NAME = r"TRT(?:-RTX)?|TensorRT(?:-RTX)?"

# In order: [date] then [V] / [TRT] in either order; [TensorRT] VERBOSE: and TensorRT VERBOSE / Severity.VERBOSE.
_TRTEXEC = re.compile(
    r"\s*\[?(?:\[(?P<time>(?:\d\d/\d\d/\d{4}-)?\d\d:\d\d:\d\d)\] )*"
    rf"(?:\[(?P<level>[VIWEFXSU!])\](?: \[(?P<source>{_NAME})\])?"
    rf"|\[(?P<source2>{_NAME})\] ?\[(?P<level2>[VIWEF])\])(?: |$)"
)
_PYTHON = re.compile(
    rf"\s*(?:\[(?:{_NAME})\] ?(?P<level>{_WORDS}):"
    rf"|(?:TensorRT|TRT) (?P<level2>{_WORDS}):?"
    rf"|\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? +(?P<level4>{_WORDS})\]"
    rf"|(?P<level5>{_WORDS}): \[[^\]]*(?:TRT|TensorRT)[^\]]*\](?: -|:)?"
    rf"|\[(?P<level6>{_WORDS})\] \[(?:{_NAME})\]"
    rf"|(?:trt\.)?(?:ILogger\.|Logger\.)?Severity\.(?P<level3>{_WORDS}):?)(?: |$)"
)
# jetson-inference prints no level.
_BARE = re.compile(r"\s*\[TRT\]:? +")
# Programs that hand lines on: what stands before TensorRT's own words, with the level that they give it.
_HANDED_ON = re.compile(
    r"^(?:.{0,40}?\b(?P<tf>[VIWEF]) \S*tf2tensorrt/\S+trt_logger\.cc:\d+\] DefaultLogger "
    r"|.{0,40}?\b(?P<glog>[VIWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (?:logging|tensorrt\w*|trt_logger)\.cc:\d+\] )"
)
# A level and no name of TensorRT: a sample's own logger, or another program. The message has to tell.
_SOFT = re.compile(
    rf"\s*(?:\[?\d{{2,4}}[-/]\d\d[-/]\d{{2,4}}[ T-]\d\d:\d\d:\d\d(?:[.,]\d+)?\]?:? *)?"
    rf"(?:\[(?P<level>{_WORDS})\]|\b(?P<level2>{_WORDS}))(?:\s*[:|-])? +"
    r"|(?P<time>\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\]) "
)
# `ModelImporter.cpp:103: `, `/workspace/onnx-tensorrt/ImporterContext.hpp:132: `: the parser's, up to 8.0.
_SOURCE = re.compile(r"^(?:[\w./\\:-]*[/\\])?\w+\.(?:cpp|hpp|h|cc|cu):\d+: ")


class Prefix(NamedTuple):
    """`level` is "" for lines without a prefix; `trt` tells TensorRT's own lines from trtexec's; `time` as written."""

    level: str
    trt: bool
    time: str
    message: str


_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_INNER = re.compile(
    r"^.{1,160}?(?=(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?(?:\[[VIWEF]\] \[TRT\] |\[TRT\] \[[VIWEF]\] )"
    rf"|\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +(?:{_WORDS})\] )"
)
_FIRST = frozenset("[TSIVWEDGt ")


def split_prefix(line: str) -> Prefix:
    """Prefix and message of `line` (no newline at its end). Colours are dropped; what a container runtime or a job
    system wrote before TensorRT's own prefix is too, and so is the parser's source file."""
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    if line[:1] in _FIRST:
        found = _TRTEXEC.match(line)
        if found:
            letter = found["level"] or found["level2"]
            source = found["source"] or found["source2"]
            return Prefix(_LEVELS[letter], source is not None, found["time"] or "", without_source(line[found.end() :]))
        found = _PYTHON.match(line)
        if found:
            word = next(filter(None, found.groups()))
            return Prefix(_LEVELS[word], True, "", without_source(line[found.end() :]))
        found = _BARE.match(line)
        if found:
            return Prefix("info", True, "", without_source(line[found.end() :]))
    if "[TRT]" in line or "tensorrt" in line[:200]:
        inner = _INNER.match(line)
        if inner:
            return split_prefix(line[inner.end() :])
    if ".cc:" in line[:200]:
        handed = _HANDED_ON.match(line)
        if handed:
            letter = handed["tf"] or handed["glog"]
            return Prefix(_LEVELS[letter], True, "", without_source(line[handed.end() :]))
    return Prefix("", False, "", line)


def soft_prefix(line: str) -> Prefix | None:
    """Prefix and message of a line whose writer is not named (`WARNING: …`, `[ERROR] …`), None without a level.

    Such a line is TensorRT's only where its message is one that TensorRT is known to write.
    """
    found = _SOFT.match(line)
    if found is None:
        return None
    word = found["level"] or found["level2"]
    return Prefix(_LEVELS[word] if word else "info", True, "", without_source(line[found.end() :]))


def without_source(message: str) -> str:
    """`message` without the source file and line that the ONNX parser wrote before it up to TensorRT 8.0."""
    colon = message.find(": ", 0, 200)
    if colon > 0 and message[colon - 1].isdigit():
        found = _SOURCE.match(message)
        if found:
            return message[found.end() :]
    return message
