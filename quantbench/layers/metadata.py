"""Metadata JSON that trtexec wrappers and TREx write: build options, performance summary, device."""

from collections.abc import Mapping
from typing import Any

from quantbench.json_types import JsonObject

_DEVICE_KEYS = {
    "Name": "Selected Device", "ComputeCapability": "Compute Capability", "TotalMemory": "Device Global Memory",
    "CLOCK_RATE": "Compute Clock Rate (kHz)", "MULTIPROCESSOR_COUNT": "SMs",
}  # fmt: skip


def read_metadata(data: Any) -> dict[str, JsonObject]:
    """Section to (key to value). A list of CUDA device attributes becomes `device_information` of the first device."""
    if isinstance(data, list):
        first = next((d for d in data if isinstance(d, Mapping)), {})
        device = {name: first[key] for key, name in _DEVICE_KEYS.items() if key in first}
        return {"device_information": device}
    if not isinstance(data, Mapping):
        return {}
    return {str(k): dict(v) for k, v in data.items() if isinstance(v, Mapping)}
