"""Named ranges on the time line of Nsight Systems, where the package `nvtx` is installed; nothing otherwise."""

import importlib
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

DOMAIN = "quantbench"


class Ranges:
    """Stages, and batches in them. TensorRT adds the layers itself, named as in the engine, where an engine was built
    with detailed profiling verbosity, as quantbench builds them."""

    def __init__(self) -> None:
        self._nvtx: Any = None
        self._asked = False

    def stage(self, name: str) -> AbstractContextManager[object]:
        """A range over a stage: "calibrate", "build", "measurement"."""
        return self._range(name)

    def batch(self, number: int) -> AbstractContextManager[object]:
        """A range over one call or batch, with its number as payload."""
        return self._range("batch", payload=number)

    def _range(self, name: str, **more: Any) -> AbstractContextManager[object]:
        nvtx = self._library()
        if nvtx is None:
            return nullcontext()
        found: AbstractContextManager[object] = nvtx.annotate(message=name, domain=DOMAIN, **more)
        return found

    def _library(self) -> Any:
        if not self._asked:
            self._asked = True
            with suppress(ImportError):
                self._nvtx = importlib.import_module("nvtx")
        return self._nvtx


ranges = Ranges()
