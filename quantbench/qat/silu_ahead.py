"""SiLU and the quantizer that reads it in one kernel: the SiLU is written as ever, and quantized by the way.

Which quantizer reads which call of a SiLU the forward pass before has told, by the number of the call (ultralytics has
one SiLU for all layers). A guess that proves wrong costs a tensor for nothing and changes no number: the quantizer
looks whether it got the very tensor. Only where kernels do it (`fused.py`).
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantbench.qat import fused
from quantbench.qat.weight_batch import eager

if TYPE_CHECKING:
    from quantbench.qat.quantizer import TensorQuantizer

# Attribute of a SiLU's result: (SiluAhead, number of the call).
CALL = "_quantbench_silu"


class SiluAhead:
    """Hooks of one model, and who reads its SiLUs. Copies and pickles of the model begin anew."""

    def __init__(self) -> None:
        self.open = False  # whether the model's forward runs, in training
        self._calls = 0
        self._readers: dict[int, TensorQuantizer] = {}
        self._guessed: list[tuple[int, TensorQuantizer, Tensor]] = []

    def attach(self, model: nn.Module) -> None:
        """Put the hooks on `model`, and let its SiLUs ask here."""
        model.register_forward_pre_hook(self.begin)
        model.register_forward_hook(self.end, always_call=True)
        made: dict[int, AheadSiLU] = {}
        for module in list(model.modules()):
            for name, child in module._modules.items():
                if type(child) is nn.SiLU:
                    # Not its class: ultralytics' models share one SiLU with each other.
                    module._modules[name] = made.setdefault(id(child), AheadSiLU.of(child, self))

    def begin(self, model: nn.Module, args: Any) -> None:
        """The model's forward starts."""
        if not getattr(model, "_is_replica", False):
            self._close()
            self.open = torch.is_grad_enabled() and eager()

    def end(self, model: nn.Module, args: Any, output: Any) -> None:
        """It ends: drop what nobody came for."""
        if not getattr(model, "_is_replica", False):
            self._close()

    def silu(self, a: Tensor) -> Tensor:
        """SiLU of `a`; its reader of the last pass gets that quantized, too."""
        call = self._calls
        self._calls += 1
        quantizer = self._readers.get(call)
        scale = None if quantizer is None else quantizer.scale_in_training()
        if quantizer is not None and scale is not None:
            found = fused.ready(a)
            if worthwhile(found) and not fused.packed_away():
                y, q = fused.silu_and_quantized(a, scale, found)
                quantizer.expect(y, q)
                self._guessed.append((call, quantizer, y))
                return y
        y = F.silu(a)
        setattr(y, CALL, (self, call))
        return y

    def read(self, call: int, quantizer: "TensorQuantizer") -> None:
        """`quantizer` got the result of `call` and could have had it quantized."""
        if self.open:
            self._readers[call] = quantizer

    def _close(self) -> None:
        for call, quantizer, y in self._guessed:
            if quantizer.unclaimed(y):
                self._readers.pop(call, None)
        self.open, self._calls, self._guessed = False, 0, []

    def __getstate__(self) -> dict[str, Any]:
        return SiluAhead().__dict__


def worthwhile(found: fused.Ready | None) -> bool:
    """Whether one kernel will do it: by operators nothing is gained."""
    return found is not None and not found[1].width


class AheadSiLU(nn.SiLU):
    """nn.SiLU that asks `ahead` while the model trains."""

    ahead: SiluAhead | None = None

    @classmethod
    def of(cls, silu: nn.SiLU, ahead: SiluAhead) -> "AheadSiLU":
        """`silu` with its settings and hooks."""
        made = cls()
        made.__dict__.update(silu.__dict__)
        made.ahead = ahead
        return made

    def forward(self, input: Tensor) -> Tensor:
        """As nn.SiLU."""
        ahead = self.ahead
        if ahead is None or not ahead.open or self.inplace or not torch.is_grad_enabled():
            return super().forward(input)
        return ahead.silu(input)
