"""Batches in parts whose activations fit into memory, and on a CPU as far as they can into its caches."""

from collections.abc import Iterator

import onnx

from quantbench.calibration.ort_outputs import Feed, images_of, static_batch

# Of activations that are alive at a time: those of eight images of a ViT-B/16 are three times as much.
MOST_BYTES = 1_000_000_000
# Of activations that are worth a run on a CPU: more only touch more memory, which costs as much as counting them.
_ENOUGH_BYTES = 32_000_000


class Parts:
    """Splits the batches of one model, where it leaves their size open. `alive` parts are held at a time, of no more
    than `most` bytes of activations together (0: MOST_BYTES); on a CPU with `threads` they are small, but no smaller
    than an image a thread (0: as large as fit). Parts of a batch are as equal as can be: for each shape that is not the
    last one's onnxruntime takes other memory, and on a GPU plans its convolutions anew."""

    def __init__(self, model: onnx.ModelProto, alive: int = 1, threads: int = 0, most: int = 0) -> None:
        self._whole = static_batch(model) > 0
        self._most_bytes = most or MOST_BYTES
        self._alive = alive
        self._threads = threads
        self.image_bytes = 0

    def of(self, feed: Feed) -> Iterator[Feed]:
        """`feed` as it is run: in `alive` parts or more; the very first image alone, which tells how large the
        activations of one are. What does not grow with the batch goes with each."""
        if self._whole:
            yield feed
            return
        count, start = images_of(feed), 0
        while start < count:
            left = count - start
            if self.image_bytes:
                size = min(-(-count // self._alive), self._most())
                size = -(-left // -(-left // size))
            else:
                size = 1
            end = start + size
            yield {n: a[start:end] if a.shape[:1] == (count,) else a for n, a in feed.items()}
            start = end

    def at_a_time(self) -> int:
        """How many parts of one image fit into memory, once one was seen."""
        return max(1, self._most_bytes // self.image_bytes)

    def _most(self) -> int:
        fit = self._most_bytes // (self._alive * self.image_bytes)
        enough = max(self._threads, -(-_ENOUGH_BYTES // self.image_bytes)) if self._threads else fit
        return max(1, min(fit, enough))

    def saw(self, part: Feed, nbytes: int) -> None:
        """The activations of `part` are so many bytes."""
        if not self.image_bytes:
            self.image_bytes = nbytes // images_of(part) + 1
