"""A forward pass that is run for what its hooks see, replayed as a CUDA graph from the second batch of a shape on."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from quantbench.qat.counter import Changed, TensorCounter
from quantbench.qat.quantizer import activation_quantizers


class Replay:
    """Call it with batch after batch; outputs are dropped. On the CPU, and where a model cannot be captured (it waits
    for the host somewhere), it just calls the model.
    """

    def __init__(self, model: nn.Module, counter: TensorCounter) -> None:
        self._model, self._counter = model, counter
        self._possible = next(model.parameters()).device.type == "cuda"
        self._shape: tuple[int, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: Tensor | None = None

    def __call__(self, batch: Tensor) -> None:
        """Run one batch, which lies on the model's device."""
        if not self._possible or tuple(batch.shape) != self._shape:
            # The first of a shape warms up libraries and caches, which a capture must not do.
            self._model(batch)
            if self._graph is None:
                self._shape = tuple(batch.shape)
            return
        if self._graph is None and not self._capture(batch):
            self._possible = False
            self._model(batch)
            return
        assert self._graph is not None
        assert self._given is not None
        self._given.copy_(batch)
        self._graph.replay()

    def _capture(self, batch: Tensor) -> bool:
        for several_in_a_launch in (True, False):
            given, graph = batch.clone(), torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph), self._counter.together() if several_in_a_launch else nullcontext():
                    self._model(given)
            except Changed:
                torch.cuda.synchronize()
                continue
            except RuntimeError:
                torch.cuda.synchronize()
                return False
            finally:
                for quantizer in activation_quantizers(self._model).values():
                    quantizer.forget()
            self._graph, self._given = graph, given
            return True
        return False
