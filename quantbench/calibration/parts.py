"""Batches in parts whose activations fit into memory."""

from collections.abc import Iterator

import onnx

from quantbench.calibration.ort_outputs import Feed, images_of, static_batch

# Of activations that are alive at a time: those of eight images of a ViT-B/16 are three times as much.
MOST_BYTES = 1_000_000_000


class Parts:
    """Splits the batches of one model, where it leaves their size open. `alive` parts are held at a time."""

    def __init__(self, model: onnx.ModelProto, alive: int = 1) -> None:
        self._whole = static_batch(model) > 0
        self._alive = alive
        self._image_bytes = 0

    def of(self, feed: Feed) -> Iterator[Feed]:
        """`feed` as it is run: in `alive` parts or more; the very first image alone, which tells how large the
        activations of one are. What does not grow with the batch goes with each."""
        if self._whole:
            yield feed
            return
        count, start = images_of(feed), 0
        while start < count:
            most = MOST_BYTES // (self._alive * self._image_bytes) if self._image_bytes else 1
            size = max(1, min(-(-count // self._alive), most))
            end = min(start + size, count)
            yield {n: a[start:end] if a.shape[:1] == (count,) else a for n, a in feed.items()}
            start = end

    def saw(self, part: Feed, nbytes: int) -> None:
        """The activations of `part` are so many bytes."""
        if not self._image_bytes:
            self._image_bytes = nbytes // images_of(part) + 1
