"""The image input of a model: its name, layout and size, and the preprocessing that fits it."""

import re
from dataclasses import dataclass, replace
from typing import Literal, cast

import onnx

from quantbench.data.tensor_inputs import TensorInput, tensor_inputs
from quantbench.errors import QuantbenchError
from quantbench.images.preprocess import Preprocess, preset
from quantbench.json_types import JsonObject

DEFAULT_PRESET = "imagenet"
_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """`layout` NCHW or NHWC; `height` and `width` None where dynamic; `batch` 0 where dynamic; dtype as numpy's.

    `family`: the preset that the model's metadata or outputs speak for ("yolo", "yolo classifier"), "" for none;
    `size`: (height, width) that the metadata names.
    """

    name: str
    layout: Literal["NCHW", "NHWC"]
    channels: int
    height: int | None
    width: int | None
    batch: int
    dtype: Literal["float32", "float16", "uint8"]
    family: str = ""
    size: tuple[int, int] | None = None


def image_input(model: onnx.ModelProto, name: str) -> ImageInput:
    """The only input of `model`, if it is an image. Raises QuantbenchError naming the input otherwise."""
    inputs = tensor_inputs(model)
    if len(inputs) != 1:
        shown = ", ".join(f"{entry.name} {entry.describe()}" for entry in inputs) or "none"
        raise QuantbenchError(
            f"{name} has {len(inputs)} inputs ({shown}): give data for each, --input NAME=FOLDER, or .npz files with "
            f"an array for each (--calib-data FOLDER)"
        )
    return as_declared(image_of(inputs[0], name), model)


def as_declared(image: ImageInput, model: onnx.ModelProto) -> ImageInput:
    """`image` with the family and size that `model` speaks for."""
    family, size = _declared(model, image.height or 0, image.width or 0)
    return replace(image, family=family, size=size)


def image_of(entry: TensorInput, name: str) -> ImageInput:
    """`entry` as an image. Raises QuantbenchError where no picture can be fed to it; arrays can."""
    dims = [d or 0 for d in entry.shape or ()]
    if len(dims) != 4 or entry.dtype not in ("float32", "float16", "uint8"):
        raise QuantbenchError(
            f"{name}: input {entry.name!r} is {entry.describe()}, not an image like float32[?, 3, H, W]; give it "
            f"arrays (.npy, .npz) or a program's items (--calib-data file.py:name)"
        )
    layout: Literal["NCHW", "NHWC"]
    if dims[1] in _CHANNELS or (dims[1] == 0 and dims[3] not in _CHANNELS):
        layout, channels, height, width = "NCHW", dims[1] or 3, dims[2], dims[3]
    elif dims[3] in _CHANNELS:
        layout, channels, height, width = "NHWC", dims[3], dims[1], dims[2]
    else:
        raise QuantbenchError(
            f"{name}: input {entry.name!r} is {entry.describe()}; no axis has 1 or 3 channels, so no image fits: give "
            f"it arrays (.npy, .npz)"
        )
    dtype = cast(Literal["float32", "float16", "uint8"], entry.dtype)
    return ImageInput(entry.name, layout, channels, height or None, width or None, dims[0], dtype)


def _declared(model: onnx.ModelProto, height: int, width: int) -> tuple[str, tuple[int, int] | None]:
    """Family and size by what ultralytics writes into a model (names, stride, task, imgsz), or by an output of as many
    anchors as strides 8, 16 and 32 give for the input's size."""
    notes = {entry.key: entry.value for entry in model.metadata_props}
    numbers = [int(number) for number in re.findall(r"[0-9]+", notes.get("imgsz", ""))]
    size = (numbers[0], numbers[-1]) if numbers else None
    if "stride" in notes and "names" in notes:
        return ("yolo classifier" if notes.get("task") == "classify" else "yolo"), size
    anchors = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    for value in model.graph.output:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if anchors and len(dims) == 3 and anchors in dims[1:] and min(dims[1:]) > 4:
            return "yolo", size
    return "", size


def fitting_preprocess(declared: str | JsonObject | None, image: ImageInput) -> tuple[Preprocess, str]:
    """The preprocessing to use and how it came about, in words for the report.

    A preset is fitted to the model's size, layout, dtype and channels; a full declaration is taken as it is.
    Raises QuantbenchError where a declaration does not yield what the model takes.
    """
    if isinstance(declared, dict):
        chosen, origin = Preprocess.from_json(declared), "declared"
    else:
        known = image.size if image.height is None or image.width is None else (image.height, image.width)
        sized = image if known is None else replace(image, height=known[0], width=known[1])
        if declared is None and image.family == "yolo classifier":
            side = min(known or (224, 224))
            chosen = _fitted(Preprocess(shortest=side, crop=(side, side), scale=1 / 255), sized)
        else:
            chosen = _fitted(preset(declared or image.family or DEFAULT_PRESET), sized)
        if declared:
            origin = f"preset {declared}"
        elif image.family:
            origin = f"of a {image.family}, which the model looks like: declare with --preprocess"
        else:
            origin = f"preset {DEFAULT_PRESET}, by default: declare with --preprocess"
    wanted: tuple[int | None, ...] = (image.channels, image.height, image.width)
    if image.layout == "NHWC":
        wanted = (image.height, image.width, image.channels)
    for have, want in zip(chosen.shape, wanted, strict=True):
        if None not in (have, want) and have != want:
            raise QuantbenchError(
                f"preprocessing yields {_text(chosen.shape)}, the model's input {image.name!r} takes {_text(wanted)}; "
                f"declare it in a recipe, like data: preprocess: {{letterbox: [{image.height or 48}, "
                f"{image.width or 320}]}} (quantbench recipes show demo)"
            )
    return chosen, origin


def _fitted(base: Preprocess, image: ImageInput) -> Preprocess:
    fitted = (
        replace(base, layout=image.layout, dtype=image.dtype)
        if image.dtype != "uint8"
        else replace(base, layout=image.layout, dtype="uint8", scale=1.0, mean=(0.0,), std=(1.0,))
    )
    base = fitted
    if image.channels == 1 and base.channels != "GRAY":
        mean, std = sum(base.mean) / len(base.mean), sum(base.std) / len(base.std)
        fitted = replace(fitted, channels="GRAY", mean=(mean,), std=(std,))
    if image.height is None or image.width is None:
        return fitted
    size = (image.height, image.width)
    if base.letterbox is not None:
        return replace(fitted, letterbox=size)
    if base.crop is not None and base.shortest is not None and base.crop != size:
        return replace(fitted, crop=size, shortest=round(base.shortest / min(base.crop) * max(size)))
    return fitted


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
