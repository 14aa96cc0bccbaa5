"""Ranges: tensor name to amax and how it was found; what calibration yields and caches carry."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.json_types import JsonObject

INT8_MAX = 127


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The symmetric range [-amax, amax] of one tensor (unit: the tensor's own).

    `method` names the threshold search; `histogram` is a summary (bins, observed maximum, share clipped …).
    """

    amax: float
    method: str = ""
    histogram: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """Scale of symmetric INT8: amax / 127 (NVIDIA, "Integer Quantization", arXiv:2004.09602, eq. 8)."""
        return self.amax / INT8_MAX


@dataclass(frozen=True, slots=True)
class Ranges:
    """All ranges of a model, in the order in which they were found or read."""

    tensors: Mapping[str, TensorRange]

    def __getitem__(self, name: str) -> TensorRange:
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def to_json(self) -> JsonObject:
        """Plain data for `ranges.json`."""
        return {
            "format": "quantbench-ranges-1",
            "tensors": {
                name: {"amax": r.amax, "method": r.method, "histogram": dict(r.histogram)}
                for name, r in self.tensors.items()
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Ranges":
        """Inverse of `to_json`. Raises QuantbenchError on other JSON, and for an amax that is none."""
        try:
            found = {
                str(name): TensorRange(float(r["amax"]), str(r.get("method", "")), dict(r.get("histogram", {})))
                for name, r in data["tensors"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise QuantbenchError(f"these ranges lack or garble a field: {error!r}") from error
        for name, entry in found.items():
            if not (math.isfinite(entry.amax) and entry.amax >= 0):
                raise QuantbenchError(f"the range of {name!r} is {entry.amax}; it must be a number from 0 on")
        return Ranges(found)
