"""Where calibration runs: the CPU, or a card by way of torch, which is loaded only then."""

import re
from dataclasses import dataclass

from quantbench.calibration.collect import Begin, on_cpu
from quantbench.errors import QuantbenchError

CPU = "cpu"
_CARD = re.compile(r"cuda(?::(\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class Place:
    """The device `name` as it was asked for, and what begins a pass there."""

    name: str
    begin: Begin

    @property
    def kind(self) -> str:
        """cpu or cuda."""
        return self.name.partition(":")[0]

    def key(self) -> str:
        """The kind: kernels of a card round otherwise than those of a CPU; which card it is changes nothing."""
        return self.kind


ON_CPU = Place(CPU, on_cpu)


def is_place(name: str) -> bool:
    """Whether `name` is cpu, cuda or cuda:N."""
    return name == CPU or _CARD.fullmatch(name) is not None


def place_of(name: str) -> Place:
    """The device `name`, which is looked for here, before any image is read.

    Raises QuantbenchError, in one line, for another name, a card that is not there, and where torch or onnxruntime
    cannot use it.
    """
    if name == CPU:
        return ON_CPU
    found = _CARD.fullmatch(name)
    if found is None:
        raise QuantbenchError(f"--device {name!r} is neither cpu nor cuda nor a card's number, as cuda:1")
    try:
        from quantbench.qat.cards import card
        from quantbench.qat.device_collector import torch_counter
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise QuantbenchError(
            f"--device {name} counts with torch, which is not installed; pip install 'quantbench[qat]', or calibrate "
            f"on the CPU (--device cpu)"
        ) from error
    return Place(name, torch_counter(card(int(found[1] or 0))))
