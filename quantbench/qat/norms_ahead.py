"""Which batch norms a SiLU follows, and which quantizer that one: told by the pass before, by the number of the call.

A guess that proves wrong costs tensors for nothing and changes no number: SiLU and quantizer look whether they got the
very tensor.
"""

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from quantbench.qat import held_norms
from quantbench.qat.norm_kernels import NormKernels

if TYPE_CHECKING:
    from quantbench.qat.quantizer import TensorQuantizer

# Attribute of a norm's result: (NormsAhead, number of the call).
_CALL = "_quantbench_norm"


class _Made(NamedTuple):
    """What a call of a norm made: its result z, its version then, SiLU, and that quantized for a quantizer."""

    call: int
    z: Tensor
    version: int
    y: Tensor
    q: Tensor | None
    quantizer: "TensorQuantizer | None"


class NormsAhead:
    """The norms of one model, call by call."""

    def __init__(self) -> None:
        self._calls = 0
        self._followed: dict[int, TensorQuantizer | None] = {}  # norms that a SiLU follows
        self._alone: set[int] = set()  # those that none followed when it was expected
        self._by_silu: dict[int, int] = {}  # call of the SiLU, of this pass, to that of its norm
        self._made: _Made | None = None

    def norm(self, module: nn.BatchNorm2d, x: Tensor, found: NormKernels | None) -> Tensor:
        """`module` of `x`; with what follows, where that is known. `found`: `held_norms.ready(x, module)`."""
        call = self._calls
        self._calls += 1
        self._drop()
        if call not in self._followed or call in self._alone:
            z = held_norms.normalized(x, module, found)
            setattr(z, _CALL, (self, call))
            return z
        quantizer = self._followed[call]
        scale = None if quantizer is None else quantizer.scale_in_training()
        if isinstance(scale, Tensor) and scale.device != x.device:
            scale = None
        z, y, *rest = held_norms.normalized_with_silu(x, module, scale, found)
        self._made = _Made(call, z, z._version, y, rest[0] if rest else None, quantizer)
        return z

    def take(self, a: Tensor, silu: int) -> "tuple[Tensor, Tensor | None, TensorQuantizer | None] | None":
        """Call `silu` of a SiLU got `a`: what was made for it, or None."""
        made = self._made
        if made is not None and made.z is a:
            self._made = None
            if a._version == made.version and not watched(a):
                self._by_silu[silu] = made.call
                return made.y, made.q, made.quantizer
            self._alone.add(made.call)
            return None
        owner, call = getattr(a, _CALL, (None, 0))
        if owner is self and not watched(a):
            self._by_silu[silu] = call
            self._followed.setdefault(call, None)
        return None

    def read(self, silu: int, quantizer: "TensorQuantizer") -> None:
        """`quantizer` got the result of call `silu` of a SiLU."""
        if silu in self._by_silu:
            self._followed[self._by_silu[silu]] = quantizer

    def unread(self, silu: int) -> None:
        """It did not, though that was quantized for it."""
        if silu in self._by_silu:
            self._followed[self._by_silu[silu]] = None

    def close(self) -> None:
        """The forward pass ends, or one begins."""
        self._drop()
        self._calls = 0
        self._by_silu.clear()

    def _drop(self) -> None:
        if self._made is not None:
            self._alone.add(self._made.call)
            self._made = None


def worthwhile(found: NormKernels | None) -> bool:
    """Whether kernels will do it: by operators nothing is gained."""
    return found is not None


def watched(x: Tensor) -> bool:
    """Whether somebody waits for the gradient of `x`, which must then go through it whole."""
    return bool(x._backward_hooks) or x.retains_grad
