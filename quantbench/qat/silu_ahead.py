"""SiLU and the quantizer that reads it in one kernel, with the batch norm before them where that holds its statistics:
each result is written as ever, the next one by the way.

Which quantizer reads which call of a SiLU the forward pass before has told, by the number of the call (ultralytics has
one SiLU for all layers). A guess that proves wrong costs a tensor for nothing and changes no number: the quantizer
looks whether it got the very tensor. Only where kernels do it (`fused.py`).
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling as compiling

from quantbench.qat import fused, held_norms, norms_ahead
from quantbench.qat.weight_batch import eager

if TYPE_CHECKING:
    from quantbench.qat.quantizer import TensorQuantizer

# Attribute of a SiLU's result: (SiluAhead, number of the call).
CALL = "_quantbench_silu"


class SiluAhead:
    """Hooks of one model, and who reads its SiLUs and its norms. Copies and pickles of the model begin anew."""

    def __init__(self) -> None:
        self.open = False  # whether the model's forward runs, in training
        self._calls = 0
        self._readers: dict[int, TensorQuantizer] = {}
        self._guessed: list[tuple[int, TensorQuantizer, Tensor]] = []
        self.norms = norms_ahead.NormsAhead()

    def attach(self, model: nn.Module) -> None:
        """Put the hooks on `model`, and let its SiLUs and batch norms ask here."""
        model.register_forward_pre_hook(self.begin)
        model.register_forward_hook(self.end, always_call=True)
        made: dict[int, AheadSiLU] = {}
        for module in list(model.modules()):
            for name, child in module._modules.items():
                if type(child) is nn.SiLU:
                    # Not its class: ultralytics' models share one SiLU with each other.
                    module._modules[name] = made.setdefault(id(child), AheadSiLU.of(child, self))
                elif type(child) is nn.BatchNorm2d:
                    child.__class__ = AheadNorm
                    child.ahead = self  # type: ignore[assignment]

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
        made = self.norms.take(a, call)
        if made is not None:
            y, q, quantizer = made
            if q is None or quantizer is None:
                setattr(y, CALL, (self, call))
            else:
                quantizer.expect(y, q)
                self._guessed.append((call, quantizer, y))
            return y
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
            self.norms.read(call, quantizer)

    def norm(self, module: nn.BatchNorm2d, x: Tensor) -> Tensor | None:
        """`module`, whose statistics are held, of `x`; None where torch's operators must do it."""
        found = held_norms.ready(x, module)
        if not norms_ahead.worthwhile(found) or fused.packed_away():
            return None
        return self.norms.norm(module, x, found)

    def _close(self) -> None:
        for call, quantizer, y in self._guessed:
            if quantizer.unclaimed(y):
                self._readers.pop(call, None)
                self.norms.unread(call)
        self.norms.close()
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
        if ahead is None or not ahead.open or self.inplace or not torch.is_grad_enabled() or compiling():
            return super().forward(input)
        return ahead.silu(input)


class AheadNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d that asks `ahead` while the model trains and its own statistics are held."""

    ahead: SiluAhead | None = None

    def forward(self, input: Tensor) -> Tensor:
        """As nn.BatchNorm2d."""
        ahead = self.ahead
        if ahead is None or self.training or not ahead.open or compiling():
            return super().forward(input)
        z = ahead.norm(self, input)
        return super().forward(input) if z is None else z
