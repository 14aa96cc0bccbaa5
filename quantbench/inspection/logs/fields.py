"""What a classified line says, taken apart. Names hold any character, so parts are found from the right."""

import re
from collections.abc import Callable, Mapping

Fields = Mapping[str, object]
_NOTHING: Fields = {}

_NODE_IO = re.compile(r"^(?P<node>.*?) \[(?P<op>\w+)\] (?:inputs|outputs): ?(?P<rest>.*)$", re.DOTALL)
_NODE_TENSOR = re.compile(r"\[(?P<name>.*?) -> \((?P<dims>[^()]*)\)(?:\[(?P<dtype>\w+)\])?\](?=, |,?\s*$)")
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)"
_TACTIC_TIME = re.compile(rf"Tactic: (?P<tactic>0x[0-9a-fA-F]+|-?\d+)(?: \(.*\))? (?:Time: |time )(?P<time>{_NUMBER})")
_TACTIC_NAME = re.compile(r"(?:Set )?Tactic Name: (?P<kernel>.*) Tactic: (?P<tactic>0x[0-9a-fA-F]+|-?\d+)")
_TACTIC_ONLY = re.compile(r"Tactic: (?P<tactic>0x[0-9a-fA-F]+|-?\d+)")
_RUNNER = re.compile(r"^-+ Timing Runner: (?P<layer>.*) \((?P<runner>[^()]*?)(?:\[0x[0-9a-fA-F]+\])?\)\s*$", re.DOTALL)
_COMPLETED = re.compile(
    r"^(?P<layer>.*) \((?P<runner>[^()]*?)(?:\[0x[0-9a-fA-F]+\])?\) "
    r"profiling completed in (?P<seconds>[\d.e+-]+) seconds"
)
_CHOSE = re.compile(r"Chose Runner Type: (?P<runner>\S+) Tactic: (?P<tactic>0x[0-9a-fA-F]+|-?\d+)")
_STAGE = re.compile(r"^(?:After )?(?P<stage>.*): (?P<layers>\d{1,18}) layers")
_REFORMAT = re.compile(
    r"^Adding reformat layer: (?P<layer>.*) \((?P<tensor>.*)\) from (?P<source>\w+\(.*?\)) to (?P<target>\w+\(.*\))\s*$"
)
_REJECTED = re.compile(
    r"^Rejecting (?:some )?int8 implementations? of (?:layer )?(?P<layer>.*?) due to missing int8 scales"
    r"(?: for (?P<missing>.*?))?(?:, will choose .*)?\.?$",
    re.IGNORECASE,
)
_RANGE = re.compile(r"^Setting dynamic range for (?P<tensor>.*) to \[(?P<low>[-+.\deinf]+), ?(?P<high>[-+.\deinf]+)\]")
_MISSING = re.compile(
    r"for tensor (?P<tensor>.*?), expect fall ?back|quantization data is missing for (?P<layer>.*?)\s*$"
)
_SCALE = re.compile(
    r"^(?:INT8 Inference Tensor scales and zero-points: )?(?P<tensor>.*) scale and zero-point "
    r"Quantization\(scale: \{(?P<scales>[^}]*)\}, zero-point: \{(?P<zeros>[^}]*)\}\)"
)
_ASSIGNED = re.compile(r"^Assigning (?P<tensor>.*) scale and zero-point\s*$")
_OLD_SCALE = re.compile(r"^INT8 Inference Tensor Scales: (?P<tensor>.*) scale: (?P<scales>[\d.e+-]+)")
_PLACED = re.compile(r"^\[(?P<device>Dla|Gpu)Layer\] (?:(?P<type>[A-Z][A-Z0-9_]+): )?(?P<layer>.*)$", re.DOTALL)
_LAYER_MEMORY = re.compile(
    r"^Layer: (?P<layer>.*) Host ?Persistent: (?P<host>\d{1,18})(?: bytes)? Device ?Persistent: (?P<device>\d{1,18})"
    r"(?:(?: bytes)? Scratch Memory: (?P<scratch>\d{1,18}))?"
)
_CACHED = re.compile(
    r"^(?P<layer>.*) \[(?P<inputs>[^\[\]]*?) ?-> ?(?P<outputs>[^\[\]]*)\] got cached result: (?P<runner>[^,]*), "
    rf"tactic (?P<tactic>0x[0-9a-fA-F]+|-?\d+), (?P<time>{_NUMBER}) ms"
)
_FUSION_NAME = re.compile(r"^(?P<pass>[A-Za-z]\w*): (?P<rest>[Ff]using .*)$", re.DOTALL)


# 8.0's own form: `-----------SqueezePushDown kSQUEEZE_JOIN case: A --> squeeze --> B`.
_SQUEEZE = re.compile(r"^-+SqueezePushDown kSQUEEZE_(?P<case>[A-Z]+) case: (?P<layers>.*)$")


def parse_fields(kind: str, message: str) -> Fields:
    """Parts of `message`, {} where the kind has none or the line is cut off before they are complete."""
    parser = _PARSERS.get(kind)
    return parser(message) if parser is not None else _NOTHING


def _match(pattern: re.Pattern[str]) -> Callable[[str], Fields]:
    def parse(message: str) -> Fields:
        found = pattern.search(message)
        return {k: v for k, v in found.groupdict().items() if v is not None} if found else _NOTHING

    return parse


def _parse_node(message: str) -> Fields:
    node, bracket, op = message.partition("node: ")[2].rpartition(" [")
    return {"node": node, "op": op.removesuffix("]")} if bracket and op.endswith("]") else _NOTHING


def _node_io(message: str) -> Fields:
    """`tensors` is a tuple of (name, dims, dtype): dims a tuple of ints (-1 for unknown), dtype as ONNX names it."""
    found = _NODE_IO.match(message)
    if found is None:
        return _NOTHING
    tensors = tuple(
        (m["name"], tuple(_int(d) for d in m["dims"].split(",") if d.strip()), m["dtype"] or "")
        for m in _NODE_TENSOR.finditer(found["rest"])
    )
    return {"node": found["node"], "op": found["op"], "tensors": tensors}


def _int(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) < 19 else -1


def _pass_run(message: str) -> Fields:
    squeeze = _SQUEEZE.match(message)
    if squeeze:
        return {"pass": f"SqueezePushDown{squeeze['case'].capitalize()}", "layer": squeeze["layers"]}
    name, on, layer = message.removeprefix("Running: ").partition(" on ")
    return {"pass": name.strip(), "layer": layer} if on else {"pass": name.strip()}


def _fuse(message: str) -> Fields:
    """`pass` is "" in TensorRT 7, which prints no pass name. ` with ` inside names: the last one splits."""
    named = _FUSION_NAME.match(message)
    name, rest = (named["pass"], named["rest"]) if named else ("", message)
    first, joint, second = rest[len("Fusing ") :].rpartition(" with ")
    return {"pass": name, "layer": first, "with": second} if joint else {"pass": name}


def _quantize_fuse(message: str) -> Fields:
    named = _FUSION_NAME.match(message)
    if named is None:
        return _NOTHING
    what, joint, layer = named["rest"][len("fusing ") :].rpartition(" into ")
    if not joint:
        return {"pass": named["pass"]}
    if what.startswith("(") and what.endswith(")"):
        what = what[1:-1]
    return {"pass": named["pass"], "nodes": tuple(what.split(" and ")), "layer": layer}


def _after(start: str) -> Callable[[str], Fields]:
    return lambda message: {"layer": message.removeprefix(start).strip()}


def _pair(start: str, joint: str, first: str, second: str) -> Callable[[str], Fields]:
    def parse(message: str) -> Fields:
        left, found, right = message.removeprefix(start).rpartition(joint)
        return {first: left, second: right.strip()} if found else _NOTHING

    return parse


def _duplicate(message: str) -> Fields:
    found = re.match(r"^Eliminating (?P<layer>.*) which duplicates (?:\((?P<sort>\w+)\) )?(?P<twin>.*)$", message)
    return {k: v for k, v in found.groupdict().items() if v is not None} if found else _NOTHING


def _retype(message: str) -> Fields:
    found = re.match(
        r"^(?:Swap the|Convert) layer type of (?P<layer>.*) from (?P<from>\S+) to (?P<to>\S+)\s*$", message
    )
    return found.groupdict() if found else _NOTHING


def _merge(message: str) -> Fields:
    return {"layers": tuple(message.partition(": ")[2].split(" || "))}


def _slice_removal(message: str) -> Fields:
    found = re.match(
        r"^Eliminating slice (?P<layer>.*?) by retargeting (?P<tensor>.*) from (?P<from>.*) to (?P<to>.*)$", message
    )
    return found.groupdict() if found else {"layer": message.removeprefix("Eliminating slice ")}


def _copy(message: str) -> Fields:
    found = re.match(r"^Generating copy for (?P<tensor>.*) to (?P<into>.*?) because (?P<why>.*)$", message)
    return found.groupdict() if found else _NOTHING


def _tactic(message: str) -> Fields:
    """`time` in ms. A skipped tactic has `skipped` instead."""
    found = _TACTIC_TIME.search(message)
    if found:
        fields: dict[str, object] = {"tactic": found["tactic"], "time": float(found["time"])}
        name = message.partition("Tactic Name: ")[2].rpartition(" Tactic: ")[0]
        if name:
            fields["kernel"] = name
        return fields
    number = _TACTIC_ONLY.search(message)
    return {"tactic": number["tactic"], "skipped": message[number.end() :].strip()} if number else _NOTHING


def _fastest(message: str) -> Fields:
    completed = _COMPLETED.match(message)
    fields: dict[str, object] = completed.groupdict() if completed else {}
    found = _TACTIC_TIME.search(message)
    if found:
        fields |= {"tactic": found["tactic"], "time": float(found["time"])}
    return fields


def _tactic_name(message: str) -> Fields:
    layer, joint, rest = message.rpartition(" Set Tactic Name: ")
    found = _TACTIC_NAME.search("Tactic Name: " + rest) if joint else None
    if found:
        return {"layer": layer, **found.groupdict()}
    return {"layer": layer, "kernel": rest.strip()} if joint and " " not in rest.strip() else _NOTHING


def _scale(message: str) -> Fields:
    """`tensor` and `scales`; the builder takes over a scale in two lines, `Assigning A scale …` and `using B scale …`,
    and tells of an overridden one without its tensor."""
    if message.startswith("User overriding"):
        return _NOTHING
    assigned = _ASSIGNED.match(message)
    if assigned is not None:
        return {"assigned": assigned["tensor"]}
    found = _SCALE.match(message.removeprefix("using ")) or _OLD_SCALE.match(message)
    if found is None:
        return _NOTHING
    values = tuple(float(v) for v in found["scales"].split(",") if re.fullmatch(_NUMBER, v.strip()))
    return {"tensor": found["tensor"], "scales": values}


def _autotune(message: str) -> Fields:
    body = message.strip("* ").partition(":")[2].strip()
    left, joint, right = body.rpartition("->")
    return {"inputs": left.strip(), "outputs": right.strip()} if joint else _NOTHING


def _cached(message: str) -> Fields:
    """What a timing cache held: `layer [inputs -> outputs] got cached result: runner, tactic 0x…, time ms`."""
    found = _CACHED.match(message)
    return {**found.groupdict(), "time": float(found["time"])} if found else _NOTHING


_PARSERS: dict[str, Callable[[str], Fields]] = {
    "parse-node": _parse_node, "node-inputs": _node_io, "node-outputs": _node_io,
    "pass-run": _pass_run, "fuse": _fuse, "quantize-fuse": _quantize_fuse, "remove": _after("Removing "),
    "swap": _pair("Swapping ", " with ", "layer", "with"), "duplicate": _duplicate, "retype": _retype,
    "merge": _merge, "concat-removal": _after("Eliminating concatenation "), "slice-removal": _slice_removal,
    "retarget": _pair("Retargeting ", " to ", "tensor", "into"), "copy": _copy, "stage": _match(_STAGE),
    "import-initializer": lambda m: {"tensor": m.partition(": ")[2]},
    "tactic": _tactic, "tactic-name": _tactic_name, "fastest": _fastest, "runner": _match(_RUNNER),
    "chosen": _match(_CHOSE), "autotune": _autotune, "reformat": _match(_REFORMAT), "scale": _scale,
    "dynamic-range": _match(_RANGE), "timing-cache": _cached,
    "missing-scale": _match(_MISSING), "rejected-int8": _match(_REJECTED), "placement": _match(_PLACED),
    "memory": _match(_LAYER_MEMORY),
    "phase": lambda m: {"phase": m.strip()},
}  # fmt: skip
