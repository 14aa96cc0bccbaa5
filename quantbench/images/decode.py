"""Decoding: an image file of any common kind to an upright 8-bit picture, grey or RGB."""

import importlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from quantbench import limits
from quantbench.errors import QuantbenchError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_ON_ITS_SIDE = range(5, 9)  # EXIF orientations that swap height and width

# Registers the decoders here rather than in several threads at once, and none but these: all of Pillow's take 0.1 s.
# JPEG covers MPO (stereo and phone photos).
Image.preinit()
for _name in ("Mpo", "Tiff", "WebP"):
    importlib.import_module(f"PIL.{_name}ImagePlugin")

# What Pillow's decoders raise on damaged files.
_DAMAGE = (MemoryError, OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError,
           struct.error, zlib.error, Image.DecompressionBombError)  # fmt: skip


class BadImageError(QuantbenchError):
    """One image cannot be used; streams skip such images, by name, up to a limit. `name` is the file."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def decode_file(path: Path, name: str = "") -> Image.Image:
    """Decode the file at `path`; see `decode_bytes`. `name` stands for it in messages (default: the path)."""
    try:
        limits.regular_file(path, limits.IMAGE_BYTES)
        data = path.read_bytes()
    except QuantbenchError as error:
        raise BadImageError(name or str(path), str(error).removeprefix(f"{path} ")) from error
    except OSError as error:
        raise BadImageError(name or str(path), f"cannot be read: {error.strerror or error}") from error
    return decode_bytes(data, name or str(path))


def decode_bytes(data: bytes, name: str) -> Image.Image:
    """Decode JPEG, PNG, BMP, WebP or TIFF `data` to an upright picture of mode L or RGB, 8 bit a channel, or of mode F:
    deeper grey, as numbers 0 to 255 with all their levels.

    EXIF orientation is applied. Alpha (also of palettes) is composited on white: what lies under transparent pixels
    is arbitrary, and white is what viewers and web pages show. 16-bit grey is scaled by 255/65535, whatever part of
    the range is in use (12-bit data fills a sixteenth of it: declare a `scale` 16 times larger); 16-bit colour keeps
    its high byte (Pillow's way). Float TIFF must lie in 0 to 1. Of files with several frames the first is taken.
    Raises BadImageError, naming the file, for anything damaged.
    """
    if not data:
        raise BadImageError(name, "the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            opened.load()
            return _plain(ImageOps.exif_transpose(opened))
    # ModuleNotFoundError: ultralytics, once imported, makes Pillow ask for a HEIF plugin before it gives up on a file.
    except (UnidentifiedImageError, ModuleNotFoundError) as error:
        raise BadImageError(name, "not a JPEG, PNG, BMP, WebP or TIFF image, or damaged at the start") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(name, f"damaged image ({reason})") from error


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) that `decode_file` will give, from the file's header alone. Raises BadImageError."""
    try:
        with Image.open(path, formats=_FORMATS) as opened:
            # Pillow turns TIFF's size itself.
            turned = opened.format != "TIFF" and opened.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
            return (opened.width, opened.height) if turned else (opened.height, opened.width)
    except (UnidentifiedImageError, ModuleNotFoundError, *_DAMAGE) as error:
        raise BadImageError(str(path), f"cannot be read ({' '.join(str(error).split())})") from error


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_integers(np.asarray(image))
    if image.mode == "F":
        return _from_floats(np.asarray(image, dtype=np.float32))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return _on_white(image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_integers(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels outside 0 to 65535 have no agreed brightness; convert it to 8 or 16 bit")
    return Image.fromarray((values * (255 / 65535)).astype(np.float32))


def _from_floats(values: np.ndarray) -> Image.Image:
    if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
        raise ValueError("float pixels outside 0 to 1 have no agreed brightness; convert it to 8 bit")
    return Image.fromarray(values * np.float32(255))


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")
