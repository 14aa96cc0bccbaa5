"""A model that waits while others are worked on: in a file where it is large, so that one at a time is in memory."""

import tempfile
from dataclasses import replace
from pathlib import Path

import onnx

from quantbench.graph.save import saved_briefly
from quantbench.graph.surgery import bytes_of
from quantbench.ort import give_back
from quantbench.qdq.carry_out import CarriedOut

# Weights beyond this many bytes wait in a file: writing and reading 343 MB takes half a second.
_IN_MEMORY = 100_000_000


class Waiting:
    """`made`, until it is `taken`. The caller lets go of it."""

    def __init__(self, made: CarriedOut) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._path: Path | None = None
        self._made = made
        if bytes_of(made.model) > _IN_MEMORY:
            self._folder = tempfile.TemporaryDirectory(prefix="quantbench-")
            self._path = saved_briefly(made.model, Path(self._folder.name))
            self._made = replace(made, model=onnx.ModelProto())
            give_back()

    def taken(self) -> CarriedOut:
        """The model as it was; once."""
        if self._folder is None or self._path is None:
            return self._made
        made = replace(self._made, model=onnx.load(str(self._path)))
        self._folder.cleanup()
        self._folder = None
        return made
