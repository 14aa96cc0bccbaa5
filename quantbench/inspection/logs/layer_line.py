"""Layer lines of build logs and of the engine inspector's one-line format, as `Layer` values.

Two forms: `Name: X, LayerType: T, Inputs: [ {...}], ... Metadata: ...` (8.2 on, RTX) and the classic
`Layer(T): X, Tactic: 0x.., a (Int8[1,64:32,56,56]) -> b (...)` (7 to 10), where 8.4 and older write `a[Int8(1,64,..)]`.
Names may hold commas, colons, brackets and arrows, so fields are found from the right.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from quantbench.inspection.logs.prefix import split_prefix
from quantbench.json_types import JsonObject
from quantbench.layers.formats import UNKNOWN, normalise_dtype, vector_format
from quantbench.layers.layer import Layer, LayerTensor
from quantbench.layers.names import nodes_of
from quantbench.layers.records import layer_from_record

_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), (?:Location: (?P<location>\w+), )?Dimensions: \[(?P<dims>[-\d, ]*)\]"
    r"(?P<rest>(?:, (?:Strides|StrideOrder): \[[-\d, ]*\]"
    r"|, (?:Datatype|Format/Datatype|Format|Vectorized\w*): [^{}\[\]]*?)*)"
    r" \}"
)
_REST = re.compile(r", (Format/Datatype|Datatype|Format): ([^{}\[\]]*?)(?=, (?:Format|Datatype)\b|$)")
_KEY = re.compile(r", ([A-Z][A-Za-z0-9/]*): ?")
# t (Int8[1,64:32,56,56]) since 8.5; t[Float(1,32,32)] before.
_NEW_TENSOR = re.compile(r" \((?P<dtype>[A-Za-z]\w*)\[(?P<dims>[-\d:,]*)\]\)")
_OLD_TENSOR = re.compile(r"\[(?P<dtype>[A-Za-z]\w*)\((?P<dims>[-\d:,]*)\)\]")
_CLASSIC = re.compile(r"^Layer\((?P<type>[\w ]*)\): (?P<body>.*)$", re.DOTALL)
_TACTIC = re.compile(r", Tactic: (?P<tactic>0x[0-9a-fA-F]+|-?\d+),")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
ARROW = " -> "


def read_rtx_layers(lines: Iterable[str]) -> tuple[Layer, ...]:
    """Layers of the last `Layers:` dump in a log, () where it has none. A dump cut off in the middle gives its head.

    `lines` may end in newlines and carry any log prefix. A log that holds only the classic
    `Engine Layer Information:` yields that one's layers.
    """
    dumps: list[list[Layer]] = []
    classic: list[list[Layer]] = []
    current: list[Layer] | None = None
    for line in lines:
        message = split_prefix(line.rstrip("\r\n")).message
        if message in ("Layers:", "Engine Layer Information:"):
            current = []
            (dumps if message == "Layers:" else classic).append(current)
            continue
        if current is None:
            continue
        layer = parse_layer_line(message)
        if layer is not None:
            current.append(layer)
        elif message.strip() and not message.startswith(("Layer(", "Name: ")):
            current = None
    for group in (dumps, classic):
        for dump in reversed(group):
            if dump:
                return tuple(dump)
    return ()


def parse_layer_line(message: str) -> Layer | None:
    """The layer of one message (prefix stripped), or None where it is no layer line or a broken one."""
    if message.startswith("Name: "):
        record = parse_named_line(message)
        return layer_from_record(record) if record is not None else None
    if message.startswith("Layer("):
        return parse_classic_line(message)
    return None


def parse_named_line(message: str) -> JsonObject | None:
    """`Name: X, LayerType: T, Inputs: [...], ...` as the record that the JSON form would hold, or None."""
    inputs_at = message.find(", Inputs: [")
    type_at = message.rfind(", LayerType: ", 0, inputs_at)
    if inputs_at < 0 or type_at < 0:
        return None
    record: JsonObject = {
        "Name": message[len("Name: ") : type_at],
        "LayerType": message[type_at + len(", LayerType: ") : inputs_at],
    }
    position = inputs_at
    for key in ("Inputs", "Constants", "Outputs"):
        opening = f", {key}: ["
        if not message.startswith(opening, position):
            if key == "Constants":
                continue
            return None
        tensors, position = _tensor_list(message, position + len(opening))
        record[key] = tensors
        if position > len(message) or not message.startswith("]", position - 1):
            return None  # cut off inside the list
    record.update(_tail(message[position:]))
    return record


def _tensor_list(message: str, position: int) -> tuple[list[JsonObject], int]:
    """Tensors from just after `[` and the position just after the closing `]` (or past the end when cut off)."""
    found: list[JsonObject] = []
    while True:
        while position < len(message) and message[position] in " ,":
            position += 1
        if message.startswith("]", position):
            return found, position + 1
        matched = _TENSOR.match(message, position)
        if matched is None:
            return found, len(message) + 1
        record: JsonObject = {
            "Name": matched["name"],
            "Dimensions": [int(d) for d in matched["dims"].split(",") if _INTEGER.fullmatch(d.strip())],
        }
        record.update({key: value.strip() for key, value in _REST.findall(matched["rest"])})
        found.append(record)
        position = matched.end()


def _tail(text: str) -> JsonObject:
    """`, Key: value` pairs after the tensors; lists, objects and integers are decoded, Metadata takes all the rest."""
    found: JsonObject = {}
    cut = text.find(", Metadata:")
    if cut >= 0:
        found["Metadata"] = text[cut + len(", Metadata:") :].strip()
        text = text[:cut]
    keys = [m for m in _KEY.finditer(text) if _outside(text, m.start())]
    for index, match in enumerate(keys):
        end = keys[index + 1].start() if index + 1 < len(keys) else len(text)
        found[match.group(1)] = _value(text[match.end() : end].strip())
    return found


def _outside(text: str, position: int) -> bool:
    """Whether `position` lies outside brackets and quotes."""
    depth, quoted = 0, False
    for character in text[:position]:
        if character == '"':
            quoted = not quoted
        elif not quoted and character in "[{":
            depth += 1
        elif not quoted and character in "]}":
            depth -= 1
    return depth == 0 and not quoted


def _value(text: str) -> Any:
    if text[:1] in "[{" and text:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    return text


def parse_classic_line(message: str) -> Layer | None:
    """`Layer(T): X, Tactic: 0x.., in -> out`, either side possibly empty; None where it was cut off before ` -> `."""
    head = _CLASSIC.match(message.rstrip())
    if head is None:
        return None
    body = head["body"]
    tactics = list(_TACTIC.finditer(body))
    if not tactics:
        return None
    # The layer's own tactic is the last one: names may quote the pattern, tensor lists cannot.
    tactic = tactics[-1]
    name, rest = body[: tactic.start()], body[tactic.end() :]
    sides = _split_sides(rest)
    if sides is None:
        return None
    return Layer(
        name=name, type=head["type"], inputs=_classic_tensors(sides[0]), outputs=_classic_tensors(sides[1]),
        nodes=nodes_of(name), tactic=tactic["tactic"],
    )  # fmt: skip


def _split_sides(rest: str) -> tuple[str, str] | None:
    """Text of inputs and of outputs. The arrow between them follows a tensor's dims or nothing at all."""
    rest = rest.strip()
    if rest == "->":
        return "", ""
    if rest.startswith("-> "):
        return "", rest[len("-> ") :]
    if rest.endswith(" ->"):
        return rest[: -len(" ->")], ""
    start = 0
    while (at := rest.find(ARROW, start)) >= 0:
        if _ends_tensor(rest[:at]):
            return rest[:at], rest[at + len(ARROW) :]
        start = at + 1
    return None


def _ends_tensor(text: str) -> bool:
    return re.search(r"(?: \(\w+\[[-\d:,]*\]\)|\[\w+\([-\d:,]*\)\])$", text) is not None


def _classic_tensors(text: str) -> tuple[LayerTensor, ...]:
    found: list[LayerTensor] = []
    position = 0
    while position < len(text):
        matches = [m for m in (_NEW_TENSOR.search(text, position), _OLD_TENSOR.search(text, position)) if m]
        if not matches:
            break
        match = min(matches, key=lambda m: m.start())
        dtype = normalise_dtype(match["dtype"])
        dims, vector = _dims(match["dims"])
        if dtype != UNKNOWN or dims:
            found.append(LayerTensor(text[position : match.start()], dtype, vector_format(dtype, vector), dims, vector))
        position = match.end() + (2 if text.startswith(", ", match.end()) else 0)
    return tuple(found)


def _dims(text: str) -> tuple[tuple[int, ...], int]:
    """`1,64:32,56,56` as ((1, 64, 56, 56), 32)."""
    dims: list[int] = []
    vector = 1
    for item in text.split(","):
        size, colon, width = item.partition(":")
        if _INTEGER.fullmatch(size):
            dims.append(int(size))
        if colon and width.isdecimal() and len(width) < 10:
            vector = int(width)
    return tuple(dims), vector
