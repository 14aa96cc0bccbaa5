"""Fake quantizers: symmetric INT8 with torch's own operators, so that both ONNX exporters write Q/DQ for them.

Symmetric INT8: scale = amax / 127, integers clipped to [-128, 127] as ONNX QuantizeLinear does (Wu et al.,
arXiv:2004.09602, section 3). Gradients are straight-through inside the range and zero outside (torch's own).
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from quantbench.qat import fused
from quantbench.qat.fused_weights import Weights, quantize_weights
from quantbench.qat.norms_ahead import watched
from quantbench.qat.silu_ahead import CALL
from quantbench.qat.weight_batch import WeightBatch, eager

INT8_MAX = 127
INT8_MIN = -128
# A channel or tensor of zeros needs some positive scale (the ONNX side uses the same).
SMALLEST_SCALE = 2.0**-14
Observer = Callable[[str, Tensor], None]


class Mode(Enum):
    """What quantizers do with a tensor: nothing, show it to an observer, or fake-quantize it."""

    OFF = "off"
    OBSERVE = "observe"
    QUANTIZE = "quantize"


class SharedRange(nn.Module):
    """amax of one group of tensors that share a scale. Float32 always: `.half()` moves it but does not round it.

    With `learned` the scale is a parameter and trained (LSQ: Esser et al., arXiv:1902.08153).
    """

    def __init__(self, learned: bool = False) -> None:
        super().__init__()
        self.learned = learned
        if learned:
            self.scale = nn.Parameter(torch.ones(()))
        else:
            self.register_buffer("scale", torch.ones(()))
        self._number: float | None = None

    scale: Tensor

    @property
    def number(self) -> float:
        """The scale as a Python number, read from the device once: torch's kernels are faster with it."""
        if self.learned or self._number is None:
            self._number = float(self.scale.detach())
        return self._number

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._number = None
        super()._load_from_state_dict(*args, **kwargs)

    def set_amax(self, amax: float) -> None:
        """Set the range; an amax of 0 (a tensor that was always zero) gets scale 1/127, as on the ONNX side."""
        value = torch.tensor(amax / INT8_MAX, dtype=torch.float32)
        self._number = None
        with torch.no_grad():
            self.scale.copy_(value if amax > 0 and value > 0 else torch.tensor(1.0 / INT8_MAX))

    @property
    def amax(self) -> float:
        """Upper end of the range."""
        return self.number * INT8_MAX

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SharedRange":
        module: SharedRange = _move_only(self, fn)
        return module


def _move_only(module: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """`nn.Module._apply` for modules whose numbers must keep their precision: follow device moves alone."""
    first = next(t for t in (*module._buffers.values(), *module._parameters.values()) if t is not None)
    device = fn(torch.zeros(1, device=first.device)).device
    for tensors in (module._buffers, module._parameters):
        for name, tensor in tensors.items():
            if tensor is not None and tensor.device != device:
                moved = tensor.detach().to(device)
                tensors[name] = nn.Parameter(moved, tensor.requires_grad) if tensors is module._parameters else moved
    return module


class TensorQuantizer(nn.Module):
    """Q/DQ of one activation tensor, called by each of its `readers`; all get the result of the first call.

    `tensor` is the name of the tensor in the Plan.
    """

    def __init__(self, tensor: str, range_: SharedRange, readers: int = 1) -> None:
        super().__init__()
        self.tensor = tensor
        self.range = range_
        self.readers = readers
        self.mode = Mode.OFF
        self.observer: Observer | None = None
        self._last: tuple[Tensor, int, Tensor] | None = None
        self._left = 0

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantized `x` (same shape and dtype), or `x` itself in the other modes."""
        if self.mode is Mode.OFF:
            return x
        last = self._last
        if last is not None and last[0] is x and last[1] == _version(x) and not watched(x):
            self._left -= 1
            if self._left == 0:
                self._last = None
            return last[2]
        if self.mode is Mode.OBSERVE:
            if self.observer is not None:
                self.observer(self.tensor, x.detach())
            result = x
        else:
            result = self._quantize(x)
        if self.readers > 1:
            self._last, self._left = (x, _version(x), result), self.readers - 1
        return result

    def _quantize(self, x: Tensor) -> Tensor:
        range_ = self.range
        # The SiLU whose result `x` is may quantize it by the way the next time.
        source = getattr(x, CALL, None)
        if source is not None:
            source[0].read(source[1], self)
        found = fused.ready(x) if self.training and eager() else None
        if range_.learned and self.training and torch.is_grad_enabled():
            scale = range_.scale
            if found is None or scale.device != x.device:
                return lsq(x, scale)
            return fused.learned_quantize(x, scale, found)
        if found is not None:
            return fused.fake_quantize(x, range_.number, found)
        return torch.fake_quantize_per_tensor_affine(x, range_.number, 0, INT8_MIN, INT8_MAX)

    def scale_in_training(self) -> float | Tensor | None:
        """The scale to quantize with in training, a tensor if it is learned; None where nothing is quantized."""
        if self.mode is not Mode.QUANTIZE or not self.training:
            return None
        return self.range.scale if self.range.learned else self.range.number

    def expect(self, x: Tensor, quantized: Tensor) -> None:
        """Take `quantized` for `x`, when that comes."""
        self._last, self._left = (x, _version(x), quantized), self.readers

    def unclaimed(self, x: Tensor) -> bool:
        """Whether nobody took what `expect` brought for `x`; it is dropped, as is what waits for further readers."""
        if self._last is None or self._last[0] is not x:
            return False
        self._last = None
        return self._left == self.readers

    def forget(self) -> None:
        """Drop the result kept for further readers: it holds the graph of the last forward pass."""
        self._last = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None, "observer": None}

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.tensor}, amax={self.range.amax:.6g}, {self.mode.value}"


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version


class WeightQuantizer(nn.Module):
    """Q/DQ of a weight: per channel along `axis`, or per tensor where `axis` is None. Scales are float32 buffers.

    The weight is `parameter` of the module that owns the quantizer, or the `rows` of it (first, one past the last).
    """

    scale: Tensor
    zero_point: Tensor
    batch: WeightBatch | None = None  # that of the model, if it has one

    def __init__(
        self, tensor: str, weight: Tensor, axis: int | None, parameter: str = "weight",
        rows: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tensor = tensor
        self.axis = axis = None if axis is None else axis % weight.dim()
        self.parameter = parameter
        self.rows = rows
        self.mode = Mode.OFF
        self.register_buffer("scale", weight_scale(weight.detach(), axis))
        self.register_buffer("zero_point", torch.zeros_like(self.scale, dtype=torch.int32), persistent=False)

    def follow(self, weight: Tensor) -> None:
        """Set the range to that of `weight` as it is now."""
        self.scale.copy_(weight_scale(weight.detach(), self.axis))

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantized `weight` (same shape and, but where autocast would round it for the layer anyway, dtype)."""
        if self.mode is not Mode.QUANTIZE:
            return weight
        if type(weight) not in (Tensor, nn.Parameter) or not eager():
            return self._plain(weight)
        found = None if self.batch is None else self.batch.take(self, weight)
        return self._alone(weight) if found is None else found

    @property
    def on(self) -> bool:
        """Whether it quantizes."""
        return self.mode is Mode.QUANTIZE

    def _alone(self, weight: Tensor) -> Tensor:
        if weight.device.type == "cpu" and not (weight.requires_grad and torch.is_grad_enabled()):
            return self._plain(weight)
        return quantize_weights(Weights([weight], [self.axis]), [weight], [self.scale], weight.dtype)[0]

    def _plain(self, weight: Tensor) -> Tensor:
        """By torch's operators, for which both ONNX exporters write Q/DQ."""
        if self.axis is not None:
            return torch.fake_quantize_per_channel_affine(
                weight, self.scale, self.zero_point, self.axis, INT8_MIN, INT8_MAX
            )
        return torch.fake_quantize_per_tensor_affine(weight, float(self.scale), 0, INT8_MIN, INT8_MAX)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WeightQuantizer":
        module: WeightQuantizer = _move_only(self, fn)
        return module

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.tensor}, axis={self.axis}, {self.mode.value}"


def weight_scale(weight: Tensor, axis: int | None) -> Tensor:
    """Scale amax/127 of `weight`, float32 [channels] along `axis` or [] per tensor; positive."""
    magnitude = weight.float().abs()
    amax = magnitude.amax() if axis is None else magnitude.amax([i for i in range(weight.dim()) if i != axis])
    scale = amax / INT8_MAX
    return torch.where(scale > 0, scale, torch.full_like(scale, SMALLEST_SCALE))


def lsq(x: Tensor, scale: Tensor) -> Tensor:
    """Learned step size quantization: gradients to `x` and to `scale` (arXiv:1902.08153, eq. 1 to 3).

    The gradient of the scale is damped by 1 / sqrt(elements * 127), section 2.2 of the paper.
    """
    damping = (x.numel() * INT8_MAX) ** -0.5
    step = scale.detach() + (scale - scale.detach()) * damping
    ratio = torch.clamp(x.float() / step, INT8_MIN, INT8_MAX)
    rounded: Tensor = (ratio + (torch.round(ratio) - ratio).detach()) * step
    return rounded.to(x.dtype)


def activation_quantizers(model: nn.Module) -> dict[str, TensorQuantizer]:
    """Activation quantizers of `model` by tensor name, in order of registration."""
    return {m.tensor: m for m in model.modules() if isinstance(m, TensorQuantizer)}


def weight_quantizers(model: nn.Module) -> Iterator[tuple[str, nn.Module, WeightQuantizer]]:
    """(name of the module that owns the weight, that module, quantizer) of every quantized weight of `model`."""
    for name, module in model.named_modules():
        for quantizer in module.children():
            if isinstance(quantizer, WeightQuantizer):
                yield name, module, quantizer


def weight_of(module: nn.Module, quantizer: WeightQuantizer) -> Tensor:
    """The weight that `quantizer` of `module` quantizes, as it is now."""
    *path, last = quantizer.parameter.split(".")
    value: Tensor = getattr(module.get_submodule(".".join(path)), last)
    return value if quantizer.rows is None else value[slice(*quantizer.rows)]


def set_mode(model: nn.Module, mode: Mode, observer: Observer | None = None) -> None:
    """Put every quantizer of `model` into `mode`."""
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.mode, module.observer = mode, observer
            module.forget()
        elif isinstance(module, WeightQuantizer):
            module.mode = Mode.QUANTIZE if mode is Mode.QUANTIZE else Mode.OFF


def follow_weights(model: nn.Module) -> None:
    """Set the range of every weight quantizer to that of its weight as it is now."""
    for _, module, quantizer in weight_quantizers(model):
        quantizer.follow(weight_of(module, quantizer))
