"""Preprocess: the declared way from a decoded picture to a model's input. Nothing is guessed in silence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.geometry import center_crop, letterbox, resize_exact, resize_shortest

if TYPE_CHECKING:
    from pydantic import JsonValue

Size = tuple[int, int]  # height, width, as arrays have it (not PIL's width, height)

CHOICES: dict[str, tuple[str, ...]] = {
    "filter": ("nearest", "bilinear", "bicubic", "lanczos", "box"),
    "channels": ("RGB", "BGR", "GRAY"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float16", "uint8"),
}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Steps in the order in which they run: one of three resizes (or none), centre crop, `(x * scale - mean) / std`.

    `x` are pixels 0 to 255. Sizes are (height, width). `mean` and `std` have one value a channel (or one for all), in
    the order of `channels`. `shortest`: resize so that the shorter side has this length; `exact`: resize without
    keeping the aspect; `letterbox`: keep the aspect and fill up with grey level `pad`. Raises QuantbenchError where
    the declaration contradicts itself.
    """

    shortest: int | None = None
    exact: Size | None = None
    letterbox: Size | None = None
    pad: int = 114
    crop: Size | None = None
    filter: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Literal["RGB", "BGR", "GRAY"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["float32", "float16", "uint8"] = "float32"

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.shortest, self.exact, self.letterbox)) > 1:
            raise QuantbenchError("preprocess: give only one of shortest, exact and letterbox")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise QuantbenchError(f"preprocess: {name} is {getattr(self, name)!r}; it can be {', '.join(allowed)}")
        for size in (self.exact, self.letterbox, self.crop, (self.shortest or 1,)):
            if size is not None and min(size) < 1:
                raise QuantbenchError(f"preprocess: sizes must be at least 1, not {size}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channel_count):
                raise QuantbenchError(
                    f"preprocess: {name} has {len(getattr(self, name))} values for {self.channel_count} channels "
                    f"({self.channels}); give one a channel, or one for all"
                )
        if 0.0 in self.std:
            raise QuantbenchError("preprocess: std must not be 0")
        if self.dtype == "uint8" and (self.scale, set(self.mean), set(self.std)) != (1.0, {0.0}, {1.0}):
            raise QuantbenchError("preprocess: dtype uint8 hands over raw pixels; leave scale, mean and std alone")

    @property
    def channel_count(self) -> int:
        """1 for GRAY, else 3."""
        return 1 if self.channels == "GRAY" else 3

    @property
    def shape(self) -> tuple[int | None, int | None, int | None]:
        """Shape of one image in the declared layout, without the batch axis; None where it depends on the image."""
        height, width = self.crop or self.exact or self.letterbox or (None, None)
        if self.layout == "NHWC":
            return height, width, self.channel_count
        return self.channel_count, height, width

    def __call__(self, image: Image.Image) -> NDArray[Any]:
        """See `apply`."""
        return apply(self, image)

    def describe(self) -> str:
        """One plain line for the report: what is done to each image, in order."""
        steps = []
        if self.shortest is not None:
            steps.append(f"resize the shorter side to {self.shortest} ({self.filter})")
        if self.exact is not None:
            steps.append(f"resize to {_size(self.exact)} ({self.filter})")
        if self.letterbox is not None:
            steps.append(f"letterbox to {_size(self.letterbox)} with grey {self.pad} ({self.filter})")
        if self.crop is not None:
            steps.append(f"centre crop {_size(self.crop)}")
        normalize = "x" if self.scale == 1.0 else f"x * {self.scale:.6g}"
        if any(self.mean) or set(self.std) != {1.0}:
            normalize = f"({normalize} - {_values(self.mean)}) / {_values(self.std)}"
        return ", ".join([*steps, normalize, self.channels, self.layout, self.dtype])

    def to_json(self) -> "dict[str, JsonValue]":
        """Plain data for run.json and recipes."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Preprocess":
        """Inverse of `to_json`; keys that are left out keep their defaults. Raises QuantbenchError on unknown keys."""
        known = {field.name for field in fields(Preprocess)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise QuantbenchError(f"preprocess: unknown key {unknown[0]!r}; known keys: {', '.join(sorted(known))}")
        values = {name: _read(name, value) for name, value in data.items()}
        return Preprocess(**values)


def apply(preprocess: Preprocess, image: Image.Image) -> NDArray[Any]:
    """Array [C, H, W] (NCHW) or [H, W, C] (NHWC) of `preprocess.dtype` made of a decoded `image` (mode L, RGB or F).

    Arithmetic is in float32; a grey picture of mode F keeps its levels, and three channels of it are the same.
    Raises QuantbenchError where the image is smaller than the crop.
    """
    if image.mode != "F":
        image = image.convert("L" if preprocess.channels == "GRAY" else "RGB")
    filter_ = Image.Resampling[preprocess.filter.upper()]
    if preprocess.shortest is not None:
        image = resize_shortest(image, preprocess.shortest, filter_)
    elif preprocess.exact is not None:
        image = resize_exact(image, preprocess.exact, filter_)
    elif preprocess.letterbox is not None:
        image = letterbox(image, preprocess.letterbox, preprocess.pad, filter_)
    if preprocess.crop is not None:
        image = center_crop(image, preprocess.crop)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], preprocess.channel_count, axis=2)
    if preprocess.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    if preprocess.dtype != "uint8":
        values = pixels.astype(np.float32) * np.float32(preprocess.scale)
        values -= np.asarray(preprocess.mean, np.float32)
        values /= np.asarray(preprocess.std, np.float32)
        pixels = values.astype(preprocess.dtype)
    elif pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels if preprocess.layout == "NHWC" else pixels.transpose(2, 0, 1))


PRESETS: dict[str, Preprocess] = {
    # torchvision's ImageNet classification preset (references/classification/presets.py).
    "imagenet": Preprocess(
        shortest=256, crop=(224, 224), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    # tensorflow/tpu, efficientnet/lite: mean 127, stddev 128 on pixels; size and crop of Lite0.
    "efficientnet-lite": Preprocess(shortest=256, crop=(224, 224), filter="bicubic", mean=(127.0,), std=(128.0,)),
    # ultralytics' LetterBox and division by 255; grey 114.
    "yolo": Preprocess(letterbox=(640, 640), scale=1 / 255),
}


def preset(name: str, **changes: Any) -> Preprocess:
    """The preset called `name` with `changes` applied. Raises QuantbenchError for a name that does not exist."""
    if name not in PRESETS:
        raise QuantbenchError(f"no preprocessing preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name], **changes)


def _read(name: str, value: Any) -> Any:
    """One value of the JSON form; a single number stands for a square size, or for all channels."""
    numbers = (int, float) if name in ("scale", "mean", "std") else int
    if isinstance(value, bool):
        raise QuantbenchError(f"preprocess: {name} cannot be {value!r}")
    if name in ("exact", "letterbox", "crop", "mean", "std") and value is not None:
        many = name in ("mean", "std")
        items = list(value) if isinstance(value, list | tuple) else [value] * (1 if many else 2)
        if not all(isinstance(item, numbers) for item in items) or (not many and len(items) != 2):
            wanted = "numbers, one a channel" if many else "two integers, height and width"
            raise QuantbenchError(f"preprocess: {name} is {value!r}; it takes {wanted}")
        return tuple(float(item) for item in items) if many else tuple(items)
    if name in ("pad", "scale") and not isinstance(value, numbers):
        raise QuantbenchError(f"preprocess: {name} is {value!r}; it takes a number")
    if name == "shortest" and not isinstance(value, int | None):
        raise QuantbenchError(f"preprocess: shortest is {value!r}; it takes an integer")
    return float(value) if name == "scale" else value


def _size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _values(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{value:g}" for value in values) + ")"
