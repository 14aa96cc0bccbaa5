"""Layers that stand inside other text: the inspector's JSON between shell prompts, in a Markdown fence or behind
`--- Layer N ---`, and what `polygraphy inspect model x.engine --show layers` prints."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantbench.layers.formats import UNKNOWN, normalise_dtype
from quantbench.layers.layer import Layer, LayerTensor
from quantbench.layers.names import nodes_of

# What tells, at a glance over the bytes, that a text may hold layers.
MARKS = (b'"LayerType"', b'"Layers"', b'"averageMs"', b" [Op: ")
_JSON_START = re.compile(r"^[ \t>]*(?=[\[{])", re.MULTILINE)
_QUOTE = re.compile(r"^[ \t]*> ?", re.MULTILINE)
_POLYGRAPHY = re.compile(
    r"^[ \t>]*Layer (?P<index>\d{1,18}) +\| (?P<name>.*) \[Op: (?P<op>[\w.]+)\][ \t]*$", re.MULTILINE
)
_TENSOR = re.compile(
    r"(?P<name>[^\s{},][^{}\n]*?) "
    r"\[(?:dtype=(?P<dtype>[\w.]+)(?:, )?)?(?:shape=\((?P<dims>[^)]*)\))?[^\]]*\]"
)
_ATTRIBUTE = re.compile(r"^\s*(?P<key>[A-Z][\w/]*) = (?P<value>.*)$", re.MULTILINE)
_INTEGER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a text holds: layer information as the inspector's JSON has it, layers already read, rows of a profile."""

    layer_info: Mapping[str, Any] | None = None
    layers: tuple[Layer, ...] = ()
    profile: Sequence[Any] = ()

    def __bool__(self) -> bool:
        return bool(self.layer_info or self.layers or self.profile)


def embedded(text: str) -> Embedded:
    """Layers and profile inside `text`; of several whole engines the last."""
    info: Mapping[str, Any] | None = None
    single: list[Mapping[str, Any]] = []
    profile: Sequence[Any] = ()
    for value in _values(text):
        if isinstance(value, Mapping) and isinstance(value.get("Layers"), list):
            info = value
        elif isinstance(value, Mapping) and "Name" in value and "LayerType" in value:
            single.append(value)
        elif isinstance(value, list) and any(isinstance(v, Mapping) and "averageMs" in v for v in value[:3]):
            profile = value
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "LayerType" in v for v in value):
            single.extend(value)
    if info is None and single:
        info = {"Layers": single}
    return Embedded(info, () if info is not None else _polygraphy(text), profile)


def _values(text: str) -> Iterator[Any]:
    """JSON values that begin a line, in order; what lies inside one is not looked at again."""
    if re.search(r"^[ \t]*> ?[\"\s{}\[\]]", text, re.MULTILINE):
        text = _QUOTE.sub("", text)
    decoder = json.JSONDecoder(strict=False)
    position = 0
    while (found := _JSON_START.search(text, position)) is not None:
        try:
            value, position = decoder.raw_decode(text, found.end())
        except (ValueError, RecursionError):
            position = found.end() + 1
            continue
        if isinstance(value, (dict, list)) and value:
            yield value


def _polygraphy(text: str) -> tuple[Layer, ...]:
    """Layers of `polygraphy inspect model`. It prints a network that is not compiled in the same form, which has no
    kernels and no types of layers: that is no engine."""
    heads = list(_POLYGRAPHY.finditer(text))
    if not heads or "==== TensorRT Network" in text:
        return ()
    layers: list[Layer] = []
    seen: set[int] = set()
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        index = int(head["index"])
        if index in seen:
            break  # the next profile repeats the layers
        seen.add(index)
        body = text[head.end() : following.start() if following is not None else len(text)]
        body, _, attributes = body.partition("---- Attributes ----")
        before, _, after = body.partition(" -> {")
        found = {m["key"]: m["value"].strip() for m in _ATTRIBUTE.finditer(attributes)}
        layers.append(
            Layer(
                name=head["name"], type=head["op"].removeprefix("LayerType."), inputs=_tensors(before),
                outputs=_tensors(after.partition("}")[0]), nodes=nodes_of(head["name"]),
                tactic=found.get("TacticName", found.get("Tactic", "")), origin=found.get("Origin", ""),
                attributes=found,
            )
        )  # fmt: skip
    return tuple(layers)


def _tensors(text: str) -> tuple[LayerTensor, ...]:
    return tuple(
        LayerTensor(
            name=m["name"].strip(),
            dtype=normalise_dtype(m["dtype"].rpartition(".")[2]) if m["dtype"] else UNKNOWN,
            dims=tuple(int(d) for d in (m["dims"] or "").split(",") if _INTEGER.fullmatch(d.strip())),
        )
        for m in _TENSOR.finditer(text.strip().lstrip("{"))
    )
