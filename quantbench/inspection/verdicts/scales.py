"""Implicit INT8: which tensors have a scale, which have none, and which layers run in float for want of one."""

import math
from collections.abc import Iterable

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import Build
from quantbench.inspection.verdicts.verdict import Item, Verdict, count, short
from quantbench.layers.categories import output_dtype

STEPS = 127  # INT8 is symmetric: amax = 127 * scale


def judge(inspection: Inspection) -> list[Verdict]:
    """Scales that the builder printed; tensors without; INT8 kernels that it rejected for that."""
    build = inspection.build
    if build is None:
        return []
    found: list[Verdict] = _set_ranges(build)
    missing = missing_tensors(inspection)
    if missing:
        items = tuple(Item(tensor, f"line {line}{_around(inspection, tensor)}") for tensor, line in missing.items())
        found.append(
            Verdict(
                "missing_scales", "problem", f"{count(len(missing), 'tensor')} without a scale",
                "Under implicit INT8, all layers that make or read such a tensor run in float.",
                "Calibrate with data that reaches these tensors, give them a range (tensor.dynamic_range, quantbench "
                "build --ranges), or leave them: an output of the network needs none.", items,
            )
        )  # fmt: skip
    if build.defaulted:
        found.append(
            Verdict(
                "default_scales", "note", f"{count(len(build.defaulted), 'layer')} without quantization data",
                "The builder knows no scale around them and went on with a default: they run in float.", "",
                tuple(Item(layer, f"line {line}") for layer, line in build.defaulted.items()),
            )
        )  # fmt: skip
    refused = rejected(inspection)
    if refused:
        found.append(
            Verdict(
                "rejected_int8", "problem", f"INT8 implementations of {count(len(refused), 'layer')} rejected",
                "The builder had INT8 kernels for them and could not use them: a tensor has no scale.",
                "Give the tensors named a range (tensor.dynamic_range, quantbench build --ranges).",
                tuple(Item(layer, f"no scale for {', '.join(tensors)}") for layer, tensors in refused.items()),
            )
        )  # fmt: skip
    if build.scales:
        odd = [t for t, values in build.scales.items() if not _sane(values)]
        order = [*odd, *sorted(set(build.scales) - set(odd), key=lambda t: (-max(build.scales[t]), t))]
        found.append(
            Verdict(
                "scales", "problem" if odd else "note",
                f"{count(len(build.scales), 'tensor')} with an INT8 scale (implicit quantization)"
                + (f", {len(odd)} of no use" if odd else ""),
                "The builder picks INT8 for a layer where its tensors have scales and an INT8 kernel is the fastest. "
                "Widest ranges first.",
                "Calibrate again: the data never reached the tensors with infinite or zero scales." if odd else "",
                tuple(Item(tensor, _range(build.scales[tensor])) for tensor in order),
            )
        )  # fmt: skip
    return found


def _set_ranges(build: Build) -> list[Verdict]:
    """Ranges that were set, not calibrated. `trtexec --int8` without a calibration cache gives every tensor ±4 (±2 for
    inputs of the network), so that it can time INT8 kernels: `setTensorDynamicRange` in its sampleEngines.cpp."""
    if not build.ranges:
        return []
    dummy = [t for t, (low, high) in build.ranges.items() if (low, high) in ((-2.0, 2.0), (-4.0, 4.0))]
    items = [Item(t, f"{low:g} to {high:g}") for t, (low, high) in build.ranges.items()]
    if len(dummy) == len(build.ranges):
        return [
            Verdict(
                "dummy_ranges", "problem", f"{count(len(dummy), 'tensor')} with a made-up range of ±2 or ±4",
                "trtexec --int8 without a calibration cache sets the same range everywhere, so that INT8 kernels can "
                "be timed. The engine's times are real, its answers are not.",
                "Build with ranges: quantbench ptq and then quantbench build model.qdq.onnx; or trtexec --calib=FILE "
                "with a cache of this network (TensorRT 8 to 10).", tuple(items),
            )
        ]  # fmt: skip
    return [
        Verdict("set_ranges", "note", f"{count(len(build.ranges), 'tensor')} with a range that the program set",
                "No calibrator measured them: they are as good as the program that set them.", "", tuple(items))
    ]  # fmt: skip


def missing_tensors(inspection: Inspection) -> dict[str, int]:
    """Tensors that the builder found no scale for, with the first line that says so."""
    found: dict[str, int] = {}
    for line, tensor in inspection.build.missing_scales if inspection.build is not None else ():
        found.setdefault(tensor, line)
    return found


def rejected(inspection: Inspection) -> dict[str, list[str]]:
    """Layer to the tensors for whose lack of a scale its INT8 implementations were rejected."""
    found: dict[str, list[str]] = {}
    for event in inspection.build.rejected if inspection.build is not None else ():
        fields = event.fields
        if "layer" in fields:
            tensors = found.setdefault(str(fields["layer"]), [])
            tensor = str(fields.get("missing", "one of its tensors"))
            if tensor not in tensors:
                tensors.append(tensor)
    return found


def _around(inspection: Inspection, tensor: str) -> str:
    """Who makes and who reads a tensor: the engine's layers where they name it, else the parsed ONNX nodes."""
    maker = inspection.flow.maker(tensor)
    readers = inspection.flow.readers.get(tensor, [])
    if maker is not None or readers:
        made = [f"made by {short(maker)} in {output_dtype(maker)}"] if maker is not None else []
        return "; " + ", ".join([*made, *_listed("read by", (short(r) for r in readers))])
    nodes = inspection.build.nodes.values() if inspection.build is not None else ()
    makers = (n.name for n in nodes if any(t[0] == tensor for t in n.outputs))
    users = (n.name for n in nodes if any(t[0] == tensor for t in n.inputs))
    words = [*_listed("made by", makers), *_listed("read by", users)]
    return "; " + ", ".join(words) if words else ""


def _listed(word: str, names: Iterable[str]) -> list[str]:
    kept = list(dict.fromkeys(names))
    return [f"{word} {', '.join(kept)}"] if kept else []


def _sane(values: tuple[float, ...]) -> bool:
    return bool(values) and all(math.isfinite(v) and v > 0 for v in values)


def _range(values: tuple[float, ...]) -> str:
    if not values:
        return "no number"
    if len(values) > 1:
        return f"{len(values)} scales, {min(values):.6g} to {max(values):.6g}"
    return f"scale {values[0]:.6g}, range ±{STEPS * values[0]:.5g}"
