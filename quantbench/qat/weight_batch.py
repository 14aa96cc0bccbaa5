"""All weights of a model that one forward pass in training will read, quantized together when it begins.

Which they are, and in which order, the forward pass before has told; the first one quantizes each by itself, and so
does what runs outside the model's own forward (a part called alone, checkpointing's second run).
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quantbench.qat.fused_weights import Weights, groups, quantize_weights
from quantbench.qat.kernels import kernels

if TYPE_CHECKING:
    from quantbench.qat.quantizer import WeightQuantizer


class WeightBatch:
    """Hooks of one model. Keeps nothing between forward passes but which weights there are: copies and pickles of the
    model begin anew."""

    def __init__(self) -> None:
        self.open = False  # whether the model's forward runs, in training
        self._entries: list[tuple[WeightQuantizer, Tensor]] = []
        self._used: dict[WeightQuantizer, Tensor] = {}
        self._missed = False
        self._made: dict[WeightQuantizer, tuple[Tensor, int, Tensor]] = {}  # weight, its version, quantized
        self._key: list[Any] = []
        self._groups: list[tuple[Weights, list[int]]] = []

    def attach(self, model: nn.Module) -> None:
        """Put the hooks on `model`."""
        model.register_forward_pre_hook(self.begin, prepend=True)
        model.register_forward_hook(self.end, always_call=True)

    def begin(self, model: nn.Module, args: Any) -> None:
        """The model's forward starts: quantize what the last one read."""
        if getattr(model, "_is_replica", False):  # of DataParallel: several at once, with parameters that are none
            return
        self._close()
        if torch.is_grad_enabled() and eager():
            self.open = True
            self._quantize()

    def end(self, model: nn.Module, args: Any, output: Any) -> None:
        """It ends: what was quantized belongs to its graph alone."""
        if not getattr(model, "_is_replica", False):
            self._close()

    def take(self, quantizer: "WeightQuantizer", weight: Tensor) -> Tensor | None:
        """The quantized `weight`, in the dtype that a layer will compute in, or None where it is not among them."""
        if not self.open or not torch.is_grad_enabled():
            return None
        made = self._made.get(quantizer)
        if made is None or made[0] is not weight:
            if weight.requires_grad and weight.is_leaf:
                self._used[quantizer], self._missed = weight, True
            return None
        self._used[quantizer] = weight
        result = made[2]
        fits = made[1] == weight._version and (result.dtype in (weight.dtype, layer_dtype(weight)))
        return result if fits else None

    def _close(self) -> None:
        if self.open and (self._missed or len(self._used) < len(self._entries)):
            self._entries, self._key = list(self._used.items()), []
        self.open = self._missed = False
        self._used, self._made = {}, {}

    def _quantize(self) -> None:
        entries = [(q, w) for q, w in self._entries if w.requires_grad and q.on and worthwhile(w)]
        if not entries:
            return
        weights = [w for _, w in entries]
        key = [(w.data_ptr(), w.stride(), w.dtype, w.device) for w in weights]
        if key != self._key:
            self._key = key
            self._groups = [
                (Weights([weights[i] for i in group], [entries[i][0].axis for i in group]), group)
                for group in groups(weights)
            ]
        for group, members in self._groups:
            own = [weights[i] for i in members]
            results = quantize_weights(group, own, [entries[i][0].scale for i in members], layer_dtype(own[0]))
            for i, weight, result in zip(members, own, results, strict=True):
                self._made[entries[i][0]] = (weight, weight._version, result)

    def __getstate__(self) -> dict[str, Any]:
        return WeightBatch().__dict__


def worthwhile(weight: Tensor) -> bool:
    """Whether kernels will do it: by operators nothing is gained."""
    return kernels(weight.device) is not None


def eager() -> bool:
    """Whether operators run as they are called: exporters and compilers must see torch's own."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def layer_dtype(weight: Tensor) -> torch.dtype:
    """What a convolution or a matrix product computes `weight` in: autocast's dtype while it is on."""
    kind = weight.device.type
    if weight.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return weight.dtype
