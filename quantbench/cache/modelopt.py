"""Quantizer state of NVIDIA ModelOpt (and of its forerunner, pytorch-quantization): amax by torch module.

Read from torch.save archives (`mto.save`, or a plain state_dict) and from safetensors; the ranges are the buffers
`<module>.input_quantizer._amax`. They name modules, not tensors: `quantbench.cache.match` finds the tensor of a module
by the weight that it reads. Written as safetensors, which `load_state_dict` takes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantbench.cache import safetensors_file, torch_zip
from quantbench.cache.model import CalibrationCache, Entry
from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.errors import QuantbenchError

DIALECT = "modelopt"
SUFFIX = "._amax"
INPUT_QUANTIZER = ".input_quantizer"
_DEPTH = 4


def parse_archive(path: Path) -> CalibrationCache:
    """Read a torch.save archive. Raises QuantbenchError where it holds no `_amax`."""
    loaded = torch_zip.load(path)
    stored: dict[str, torch_zip.StoredTensor] = {}
    _collect(loaded, stored, _DEPTH)
    disabled = _disabled(loaded)
    amax = {name: tensor.read() for name, tensor in stored.items() if not _is_weight(name)}
    return _cache(amax, sum(_is_weight(name) for name in stored), disabled, str(path))


def parse_safetensors(data: bytes, name: str) -> CalibrationCache:
    """Read a safetensors state_dict; `name` is the file's, for messages."""
    amax = safetensors_file.read(data, SUFFIX)
    activations = {key: values for key, values in amax.items() if not _is_weight(key)}
    return _cache(activations, len(amax) - len(activations), frozenset(), name)


def render(ranges: Ranges) -> bytes:
    """`ranges`, named `<module>.input_quantizer`, as a safetensors state_dict of scalar float32 `_amax` buffers."""
    return safetensors_file.write(
        {f"{name}{SUFFIX}": np.asarray(r.amax, np.float32) for name, r in ranges.tensors.items()}
    )


def module_of(name: str) -> str | None:
    """The torch module of an entry `<module>.input_quantizer` (or `_input_quantizer`), None for other names."""
    for ending in (INPUT_QUANTIZER, "._input_quantizer"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return None


def _cache(
    amax: Mapping[str, npt.NDArray[np.float64]], weights: int, disabled: frozenset[str], source: str
) -> CalibrationCache:
    entries, channels, off = [], 0, 0
    for key, values in amax.items():
        name = key.removesuffix(SUFFIX)
        if name in disabled:
            off += 1
        elif values.size:
            channels += values.size > 1
            entries.append(Entry(name, float(np.abs(values).max()) / INT8_MAX))
    if not entries:
        raise QuantbenchError(f"{source} holds no activation ranges (no '*.input_quantizer._amax'); calibrate first")
    notes = []
    if weights:
        notes.append(f"{weights} weight ranges left out: TensorRT finds them itself")
    if channels:
        notes.append(f"{channels} activations have a range per channel; the widest is taken")
    if off:
        notes.append(f"{off} disabled quantizers left out: those tensors stay float")
    return CalibrationCache(DIALECT, tuple(entries), notes=tuple(notes))


def _is_weight(name: str) -> bool:
    return name.removesuffix(SUFFIX).endswith("weight_quantizer")


def _collect(value: Any, into: dict[str, torch_zip.StoredTensor], depth: int) -> None:
    """Every tensor whose key ends in `_amax`, in nested dicts (mto.save nests, a state_dict does not)."""
    if depth == 0 or not isinstance(value, dict):
        return
    for key, item in value.items():
        if isinstance(item, torch_zip.StoredTensor):
            if isinstance(key, str) and key.endswith(SUFFIX):
                into[key] = item
        else:
            _collect(item, into, depth - 1)


def _disabled(loaded: Any) -> frozenset[str]:
    """Names of quantizers that ModelOpt's metadata say are off."""
    try:
        states = loaded["modelopt_state"]["modelopt_state_dict"]
        quantizers = {k: v for _, mode in states for k, v in mode["metadata"].get("quantizer_state", {}).items()}
        return frozenset(name for name, state in quantizers.items() if state.get("_disabled"))
    except (KeyError, TypeError, ValueError, AttributeError):
        return frozenset()  # a plain state_dict has no metadata, and older releases other ones
