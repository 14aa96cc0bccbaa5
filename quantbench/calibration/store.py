"""Histograms on disk (`.npz`), so that another method or a resumed run needs no second look at the images."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from quantbench.atomic import atomic_path
from quantbench.calibration.histogram import Histogram
from quantbench.errors import QuantbenchError


def save_histograms(path: Path, histograms: Mapping[str, Histogram], *, images: int = 0, key: str = "") -> None:
    """Write names, counts [T, 4096] (int64), exponents [T], maxima [T] (float64), how many `images` are in them and
    the `key` of what they were counted from, atomically.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        write_histograms(stream, histograms, images=images, key=key)


def write_histograms(stream: IO[bytes], histograms: Mapping[str, Histogram], *, images: int = 0, key: str = "") -> None:
    """The same into an open file."""
    names = list(histograms)
    np.savez_compressed(
        stream,
        key=np.array(key),
        names=np.array(names),
        counts=np.stack([histograms[name].counts for name in names]),
        exponents=np.array([histograms[name].exponent for name in names], np.int32),
        maxima=np.array([histograms[name].amax for name in names], np.float64),
        images=np.int64(images),
    )


def is_counted(path: Path, key: str, images: int) -> bool:
    """Whether the file at `path` holds histograms of `key`, of so many images or more."""
    try:
        with np.load(path) as data:
            return str(data["key"]) == key and int(data["images"]) >= images
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def load_histograms(path: Path, key: str | None = None) -> tuple[dict[str, Histogram], int]:
    """Inverse of `save_histograms`: histograms and images. With `key` nothing and 0 where the file is absent, is of
    an older version, damaged, or was counted from something else.

    Raises QuantbenchError where the file is damaged and no key was given.
    """
    if key is not None and not path.exists():
        return {}, 0
    try:
        with np.load(path) as data:
            if key is not None and ("key" not in data or str(data["key"]) != key):
                return {}, 0
            names, counts = data["names"].tolist(), data["counts"]
            exponents, maxima = data["exponents"].tolist(), data["maxima"].tolist()
            images = int(data["images"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if key is not None:
            return {}, 0
        raise QuantbenchError(f"{path} is damaged ({error}); delete it and calibrate again") from error
    rows = zip(names, counts, exponents, maxima, strict=True)
    return {name: Histogram(count, exponent, amax) for name, count, exponent, amax in rows}, images
