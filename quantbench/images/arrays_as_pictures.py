"""ArrayPictures: pictures that lie in memory as one uint8 array, such as MNIST."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantbench.errors import QuantbenchError


class ArrayPictures:
    """Pictures [N, H, W] (grey) or [N, H, W, 3] (RGB) of dtype uint8 with integer labels [N] or none.

    `prefix` starts the names (`prefix[0]` …). Raises QuantbenchError where shapes or dtypes are others.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], labels: Sequence[int] | NDArray[np.int64] | None, prefix: str
    ) -> None:
        if pixels.dtype != np.uint8 or not (pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] == 3)):
            raise QuantbenchError(f"{prefix}: pictures must be uint8 [N, H, W] or [N, H, W, 3], not {pixels.dtype}"
                                  f"{list(pixels.shape)}")  # fmt: skip
        if labels is not None and len(labels) != len(pixels):
            raise QuantbenchError(f"{prefix}: {len(labels)} labels for {len(pixels)} pictures")
        self._pixels = pixels
        self._labels = labels
        self._prefix = prefix

    def __len__(self) -> int:
        return len(self._pixels)

    def picture(self, index: int) -> Image.Image:
        """Picture of mode L or RGB."""
        return Image.fromarray(self._pixels[index])

    def name(self, index: int) -> str:
        """`prefix[index]`."""
        return f"{self._prefix}[{index}]"

    def label(self, index: int) -> int | None:
        """The label, or None where there are none."""
        return None if self._labels is None else int(self._labels[index])

    def sha256(self) -> str:
        """Hash of pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self._pixels).tobytes())
        if self._labels is not None:
            digest.update(np.asarray(self._labels, np.int64).tobytes())
        return digest.hexdigest()


def without_duplicates(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Indices of the first of each set of equal pictures, in order: what may be split into train and test."""
    seen: set[bytes] = set()
    kept: list[int] = []
    for index, picture in enumerate(pixels):
        key = picture.tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(index)
    return np.asarray(kept, np.int64)


def split_indices(count: int, test: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`count` indices shuffled with `seed` and cut into (train, test), the latter of `test` items; both in shuffled
    order, since many sets are stored class by class and the first few must be a fair sample.

    Raises QuantbenchError where `test` does not leave anything to train on.
    """
    if not 0 < test < count:
        raise QuantbenchError(f"a test set of {test} does not fit into {count} pictures")
    order = np.random.default_rng(seed).permutation(count)
    return order[test:], order[:test]
