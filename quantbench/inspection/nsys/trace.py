"""Kernels and memory copies that Nsight Systems saw, whatever file they were read from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in one NVTX range ("" without): `count` launches, `total_ms` together. In a trace one launch."""

    name: str
    total_ms: float
    count: int = 1
    range: str = ""


@dataclass(frozen=True, slots=True)
class Copies:
    """Memory operations of one kind."""

    kind: str
    count: int = 0
    total_ms: float = 0.0
    megabytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """`in_order` tells that kernels are single launches in the order in which they began."""

    kernels: tuple[Kernel, ...]
    copies: tuple[Copies, ...] = ()
    in_order: bool = False

    @property
    def total_ms(self) -> float:
        """Sum over all launches."""
        return sum(kernel.total_ms for kernel in self.kernels)
