"""Layer names as TensorRT builds them, taken apart: `W + Q + Conv`, `A || B`, `PWN(x)`, `{ForeignNode[a...b]}`."""

import re

_REFORMATTED = re.compile(r"^Reformatt(?:ing|ed) .*?(?:for|to) (?:Input|Output) Tensor \d+ to |"
                          r"^Reformatted (?:Input|Output) Tensor \d+ to ")  # fmt: skip
_PROFILE = re.compile(r" \[profile \d+\]$")
_FOREIGN = re.compile(r"^\{ForeignNode\[(.*)\]\}$", re.DOTALL)
_MADE_BY_TENSORRT = re.compile(r"^\(Unnamed Layer\* \d+\) \[.*\](?:_output)?$|^\[?trainStation\d+\]?$|"
                               r"^unsqueeze_node_after_|^ONNXTRT_|^__my[el]|^\d+-layer MLP")  # fmt: skip
_TORCH_TRT = re.compile(r"^\[[A-Z_0-9]+\]-\[(?:aten_ops|acc_ops|[\w.]+)\S*\]-\[(.*)\]$")
_METADATA_NODE = re.compile(r"\[ONNX Layer: ")
_JOINTS = re.compile(r" \|\| | \+ ")
_SEPARATORS = "\x1e\x1f"
_CLONE = re.compile(r"(?:_clone_\d+)+$")


def strip_profile(name: str) -> str:
    """`name` without the ` [profile N]` of a multi-profile engine."""
    return _PROFILE.sub("", name)


def reformat_target(name: str) -> str | None:
    """The layer that a `Reformatting CopyNode for Input Tensor 0 to X` serves, or None for other layers."""
    found = _REFORMATTED.match(name)
    return strip_profile(name[found.end() :]) if found else None


def strip_clone(name: str) -> str:
    """`Q_clone_0` to `Q`: the Q of the network that SplitQAcrossPrecedingFanIn copied per branch."""
    return _CLONE.sub("", name)


def split_parts(name: str) -> tuple[str, ...]:
    """The pieces of a fused layer's name, in order: initializers, ONNX nodes and layers that TensorRT added.

    A ForeignNode (Myelin) yields its two ends, the only ones that its name tells.
    """
    name = strip_profile(reformat_target(name) or name)
    foreign = _FOREIGN.match(name)
    if foreign:
        first, dots, last = foreign.group(1).partition("...")
        return (first, last) if dots and last != first else (first,)
    if "(" not in name:
        return tuple(part for part in _JOINTS.split(name) if part)
    return _scan(name)


def _scan(name: str) -> tuple[str, ...]:
    """Split at ` + ` and ` || `, and at `, ` inside PWN(...); brackets of other kinds belong to a piece."""
    parts: list[str] = []
    piece: list[str] = []
    opened: list[bool] = []  # True for each open PWN( bracket, False for each plain one
    position = 0
    while position < len(name):
        splittable = all(opened)
        if splittable and not piece and name.startswith("PWN(", position):
            opened.append(True)
            position += len("PWN(")
            continue
        joint = next((j for j in (" + ", " || ") if splittable and name.startswith(j, position)), "")
        if not joint and splittable and opened and name.startswith(", ", position):
            joint = ", "
        if joint:
            parts.append("".join(piece))
            piece = []
            position += len(joint)
            continue
        character = name[position]
        position += 1
        if character == "(":
            opened.append(False)
        elif character == ")" and opened and opened.pop():
            continue
        piece.append(character)
    if opened:
        return tuple(part for part in _JOINTS.split(name) if part)
    parts.append("".join(piece))
    return tuple(part for part in parts if part)


def nodes_of(name: str) -> tuple[str, ...]:
    """ONNX nodes in a layer name as far as the name tells: no unnamed layers of TensorRT, no weights before their Q.

    Which names are nodes is only known where a Metadata field, a parsing log or the ONNX file is at hand; this is
    the best guess without them.
    """
    parts = split_parts(name)
    kept: list[str] = []
    for index, part in enumerate(parts):
        following = parts[index + 1] if index + 1 < len(parts) else ""
        if "QuantizeLinear" in following and "DequantizeLinear" not in following and "QuantizeLinear" not in part:
            continue
        torch = _TORCH_TRT.match(part)
        if torch:
            kept.append(torch.group(1))
        elif not _MADE_BY_TENSORRT.match(part):
            kept.append(part)
    return tuple(dict.fromkeys(kept))


def metadata_nodes(metadata: str) -> tuple[str, ...]:
    """Node names in a `Metadata` field: `[ONNX Layer: a][ONNX Layer: b]`, with U+001E or U+001F between or not."""
    nodes: list[str] = []
    for chunk in re.split(f"[{_SEPARATORS}]", metadata):
        if "[ONNX Layer: " in chunk:
            for piece in _METADATA_NODE.split(chunk)[1:]:
                nodes.append(piece.rstrip().removesuffix("]"))
        elif chunk.strip():
            torch = _TORCH_TRT.match(chunk.strip())
            nodes.append(torch.group(1) if torch else chunk.strip())
    return tuple(dict.fromkeys(nodes))
