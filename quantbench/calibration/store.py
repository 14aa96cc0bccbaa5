"""Histograms on disk (`.npz`), so that another method or a resumed run needs no second look at the images."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quantbench.atomic import atomic_path
from quantbench.calibration.histogram import Histogram
from quantbench.errors import QuantbenchError


def save_histograms(path: Path, histograms: Mapping[str, Histogram], *, images: int = 0) -> None:
    """Write names, counts [T, 2048] (int64), maxima [T] (float64) and how many `images` are in them, atomically."""
    names = list(histograms)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            names=np.array(names),
            counts=np.stack([histograms[name].counts for name in names]),
            maxima=np.array([histograms[name].amax for name in names], np.float64),
            images=np.int64(images),
        )


def load_histograms(path: Path) -> tuple[dict[str, Histogram], int]:
    """Inverse of `save_histograms`: histograms and images. Raises QuantbenchError where the file is damaged."""
    try:
        with np.load(path) as data:
            names, counts, maxima = data["names"].tolist(), data["counts"], data["maxima"].tolist()
            images = int(data["images"])
    except (OSError, ValueError, KeyError) as error:
        raise QuantbenchError(f"{path} is damaged ({error}); delete it and calibrate again") from error
    pairs = zip(names, counts, maxima, strict=True)
    return {name: Histogram(count, amax) for name, count, amax in pairs}, images
