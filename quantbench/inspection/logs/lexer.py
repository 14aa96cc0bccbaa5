"""The streaming lexer: any TensorRT log, whole or cut off, to events of (line number, kind, message, fields)."""

import codecs
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from quantbench import limits
from quantbench.inspection.logs.fields import parse_fields
from quantbench.inspection.logs.prefix import Prefix, soft_prefix, split_prefix
from quantbench.inspection.logs.rules import BY_FIRST_WORD, BY_LETTERS, PHRASES
from quantbench.inspection.logs.topics import topic
from quantbench.inspection.open_file import bare_name, head, open_binary

_OPTION = re.compile(r"^\s*[A-Za-z][\w()/ .,'&+-]{0,60}: ?")
_LAYER_TYPES = (
    "CONSTANT CONVOLUTION ACTIVATION SCALE POOLING ELEMENTWISE SHUFFLE IDENTITY CAST REDUCE "
    "MATRIX_MULTIPLY SOFTMAX TOPK CONCATENATION DECONVOLUTION UNARY PADDING GATHER SLICE RESIZE SELECT "
    "FILL QUANTIZE DEQUANTIZE NORMALIZATION PLUGIN PLUGIN_V2 PLUGIN_V3 LRN SHAPE LOOP CONDITION ASSERTION "
    "SCATTER EINSUM ONE_HOT NON_ZERO GRID_SAMPLE NMS REVERSE_SEQUENCE SQUEEZE UNSQUEEZE RAGGED_SOFTMAX "
    "FULLY_CONNECTED RNN_V2 PARAMETRIC_RELU CUMULATIVE KVCACHE_UPDATE DYNAMIC_QUANTIZE ROTARY_EMBEDDING "
    "ATTENTION RECURRENCE ITERATOR LOOP_OUTPUT TRIP_LIMIT "
)
_GRAPH_ROW = re.compile(rf"^(?:    (?:Input|Output) \d+\s*$|        \S|(?:{'|'.join(_LAYER_TYPES.split())}) \S)")
_PROFILE_ROW = re.compile(
    r"^\s*\S.*?\s+-?[\d.]+(?:\s+-?[\d.]+){1,4}\s*$|^\s*\d+(?:\.\d+)?(?:\s+\d+(?:\.\d+)?){2,3}\s+\S"
)
# The table's own heading, which tells it where an excerpt lacks `=== Profile (N iterations ) ===`.
_PROFILE_HEAD = re.compile(r"^\s*(?:Layer\s+Time ?\(ms\)|Time ?\(ms\)\s+A\w+\.? ?(?:Time ?)?\(ms\))")
# `--dumpOutput`: `y: (1x10)` and its values.
_OUTPUT_HEAD = re.compile(r"^\S.*: \(\d+(?:x\d+)*\)\s*$")
_VALUES = re.compile(r"^\s*(?:[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)(?:\s+|$))+$", re.IGNORECASE)
_TRANSLATED = re.compile(r"[\u3000-\u9fff]")
# Polygraphy's own lines: it logs with TensorRT's letters, without naming TensorRT.
_POLYGRAPHY = re.compile(
    r"^\s*(?:.* \| |Loaded (?:Module|extension)|Building engine with configuration|Finished engine building|Saving "
    r"|Loading |Generating |Will generate |Successfully ran|Comparing Output|Configuring with profiles|Setting TensorRT"
    r"|(?:trt|onnxrt)-runner|---- |Error Metrics|Creating ONNX-Runtime|Will |Using )"
)
# Words of TensorRT's warnings and errors, for programs that print them under their own level.
_OF_TENSORRT = re.compile(
    r"^\d+: |Error Code \d+|TensorRT|\bengine\b|calibrat|int8|INT8|weights|plugin|\bnvinfer|optimization profile"
    r"|Network (?:must|valid|has)|implementation|Could not compute|ONNX|\bDLA\b|tensor\b"
)
_METADATA_ROW = re.compile(r"^\s*[A-Z][\w -]*: \S")


class Event(NamedTuple):
    """One line. `level` is "" without a prefix; `trt` tells TensorRT's logger from trtexec's."""

    line: int
    kind: str
    message: str
    level: str = ""
    trt: bool = False

    @property
    def fields(self) -> Mapping[str, object]:
        """What the line says, taken apart (names from the right); {} where the kind has no parts."""
        return parse_fields(self.kind, self.message)


def read_events(path: Path) -> Iterator[Event]:
    """Events of the file at `path` (plain, .gz or .xz), streamed. Raises QuantbenchError where it cannot be read."""
    start = head(path, 65536)
    encoding = encoding_of(start)
    markdown = bare_name(path).lower().endswith(".md") or has_fences(start.decode(encoding, "replace"))
    with open_binary(path) as file:
        # newline="\n": U+001E, U+0085 and lone \r inside a message do not end a line.
        lines = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="\n")
        yield from lex(_until_cut(lines), markdown=markdown)


def _until_cut(lines: io.TextIOWrapper) -> Iterator[str]:
    """`lines` up to where a compressed file is cut off: a log that stops early is still a log.

    Raises QuantbenchError for a line that no program writes (gigabytes that compress to nothing).
    """
    try:
        while line := lines.readline(limits.LINE_CHARACTERS + 1):
            if len(line) > limits.LINE_CHARACTERS:
                limits.check("a line of the log", len(line), limits.LINE_CHARACTERS, "characters")
                line += lines.readline()
            yield line
    except EOFError:
        return


def has_fences(text: str) -> bool:
    """Whether the head of a file holds Markdown code fences."""
    return re.search(r"^\s*```", text, re.MULTILINE) is not None


def encoding_of(start: bytes) -> str:
    """UTF-16 where a byte-order mark says so (PowerShell's `>` writes it), else UTF-8."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if start.startswith(codecs.BOM_UTF8) else "utf-8"


def lex(lines: Iterable[str], markdown: bool = False) -> Iterator[Event]:
    """Classify `lines`. In Markdown, lines without a prefix and of no known form are prose ("note")."""
    section = ""
    for number, line in enumerate(lines, 1):
        level, trt, _, message = split_prefix(line.rstrip("\r\n"))
        if not message or message.isspace():
            if section not in _STAY_OPEN:
                section = ""
            yield Event(number, "option" if level else "blank", message, level, trt)
            continue
        kind = _by_section(message, section, level, trt) if section else ""
        if not kind:
            soft = soft_prefix(message) if not level else None
            if soft is not None and (kind := _soft_kind(soft)):
                level, trt, _, message = soft
            else:
                kind = classify(message)
            section = _section_after(kind, message, section, level)
        if level in _WRONG and kind not in _NO_ERRORS:
            kind = "error"
        if markdown:
            kind = _in_markdown(message, kind, level)
        elif not kind and not level:
            kind = "program"
        yield Event(number, kind or _by_level(message, level, trt), message, level, trt)


def _soft_kind(prefix: Prefix) -> str:
    """Kind of a line whose writer is not named: what TensorRT is known to write, and its numbered errors."""
    kind = classify(prefix.message)
    if kind or prefix.level in ("verbose", "info"):
        return kind
    return prefix.level.replace("fatal", "error") if _OF_TENSORRT.search(prefix.message) else ""


_WRONG = frozenset({"error", "fatal"})
# TensorRT 7 logs as errors what it recovers from: kernels that did not fit.
_NO_ERRORS = frozenset({"tactic-skip"})
# A blank line ends every section but these: dumps print blank lines inside.
_STAY_OPEN = frozenset({"Layers:", "Engine Layer Information:", "GRAPH NODES"})


def _section_after(kind: str, message: str, section: str, level: str) -> str:
    """The section that holds after a line: opened by a heading, closed by the first line that does not fit."""
    if kind == "section":
        return message.strip("= ").partition(" (")[0]
    if _PROFILE_HEAD.match(message):
        return "Profile"
    if kind == "output":
        return "output"
    if kind == "layer-dump" or message == "GRAPH NODES":
        return message.strip()
    if kind == "layer" or (section in _STAY_OPEN and kind == "" and not level):
        return section
    return section if section.startswith("Explanations") else ""


def _by_section(message: str, section: str, level: str, trt: bool) -> str:
    """Kind of a line that only its section explains, "" for lines that speak for themselves."""
    if section == "GRAPH NODES":
        return "graph-dump" if level and _GRAPH_ROW.match(message) else ""
    if section == "Profile":
        if trt or _VALUES.match(message):
            return ""
        return "profile" if _PROFILE_ROW.match(message) or _PROFILE_HEAD.match(message) else ""
    if section == "output":
        return "output" if level == "info" and not trt and _VALUES.match(message) else ""
    if section.endswith((" Options", " Information")) and level == "info" and not trt:
        return "option" if _OPTION.match(message) and not message.startswith("[") else ""
    if section.startswith("Explanations") and level and not trt:
        return "explanation"
    if not level and section in ("Bindings:", "I/O Tensors:"):
        return "binding"
    if not level and section == "Engine Metadata:" and _METADATA_ROW.match(message):
        return "binding"
    return ""


def classify(message: str) -> str:
    """Kind of a message (prefix stripped) by its own words, "" where those do not tell."""
    word = message.partition(" ")[0]
    for start, kind in BY_FIRST_WORD.get(word, ()):
        if message.startswith(start):
            return kind
    for start, kind in BY_LETTERS.get(message[:3], ()):
        if message.startswith(start):
            return kind
    if word == "Name:":
        if ", LayerType: " in message:
            return "layer"
        return "binding" if ", IOMode: " in message else ""
    for phrase, kind in PHRASES:
        if phrase in message:
            return kind
    return "profile" if word in ("", "Layer", "Time") and _PROFILE_HEAD.match(message) else ""


def _in_markdown(message: str, kind: str, level: str) -> str:
    """In Markdown a line without prefix is log text only where its form is beyond doubt, else it is prose.

    A quoted line put into another script is prose too.
    """
    if level:
        return "note" if _TRANSLATED.search(message) else kind
    certain = kind in ("layer", "layer-dump", "profile") or (kind == "trtexec" and message.startswith("&&&& "))
    return kind if certain else "note"


def _by_level(message: str, level: str, trt: bool) -> str:
    """What is left: rows of dumps whose heading was cut off, options, warnings and errors; the rest is unknown."""
    if level == "warning":
        return "warning"
    if level in ("error", "fatal"):
        return "error"
    if level == "verbose" and _GRAPH_ROW.match(message):
        return "graph-dump"
    if not trt and _POLYGRAPHY.match(message):
        return "program"
    if level == "info" and not trt:
        if _OUTPUT_HEAD.match(message) or _VALUES.match(message):
            return "output"
        if _PROFILE_ROW.match(message):
            return "profile"
        if _OPTION.match(message):
            return "option"
    return topic(message) or "unknown"
