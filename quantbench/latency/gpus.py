"""Published specifications of GPUs, and what one multiprocessor does a clock by compute capability.

Sources: NVIDIA's architecture whitepapers (Pascal GP104, Volta GV100, Turing, Ampere GA100 and GA102, Ada AD102,
Hopper GH100) and the Jetson module data sheets; dense rates, FP16 with FP16 accumulation (TensorRT's kernels).
TensorRT's logs tell SMs, clocks and bus width themselves, which is preferred where they are at hand.
"""

from dataclasses import dataclass

# Multiply-adds a clock and multiprocessor, dense.
_RATES: dict[str, dict[str, float]] = {
    "6.1": {"FP32": 128, "FP16": 128, "DP4A": 512},
    "7.0": {"FP32": 64, "FP16": 512, "DP4A": 256},
    "7.2": {"FP32": 64, "FP16": 512, "INT8": 1024, "DP4A": 256},
    "7.5": {"FP32": 64, "FP16": 512, "INT8": 1024, "DP4A": 256},
    "8.0": {"FP32": 64, "TF32": 512, "FP16": 1024, "INT8": 2048, "DP4A": 256},
    "8.6": {"FP32": 128, "TF32": 128, "FP16": 512, "INT8": 1024, "DP4A": 512},
    "8.7": {"FP32": 128, "TF32": 512, "FP16": 1024, "INT8": 2048, "DP4A": 512},
    "8.9": {"FP32": 128, "TF32": 128, "FP16": 512, "INT8": 1024, "DP4A": 512},
    "9.0": {"FP32": 128, "TF32": 1024, "FP16": 2048, "INT8": 4096, "DP4A": 256},
    "10.0": {"FP32": 128, "TF32": 1024, "FP16": 2048, "INT8": 4096, "DP4A": 256},
    "12.0": {"FP32": 128, "TF32": 128, "FP16": 512, "INT8": 1024, "DP4A": 512},
}


@dataclass(frozen=True, slots=True)
class Specs:
    """`sms` multiprocessors at `clock_ghz`, memory at `bandwidth_gbs` GB/s, `capability` as "8.0", an L2 cache of
    `cache_mb` MB (0: not known, and none is counted)."""

    gpu: str
    sms: int
    clock_ghz: float
    bandwidth_gbs: float
    capability: str
    cache_mb: float = 0.0

    @property
    def cycles(self) -> float:
        """Clock cycles of all multiprocessors together a µs."""
        return self.sms * self.clock_ghz * 1e3

    @property
    def cache_bytes(self) -> float:
        """Bytes of the L2 cache."""
        return self.cache_mb * 1e6

    def rate(self, math: str) -> float:
        """Multiply-adds a µs and multiprocessor of an arithmetic; that of FP32 where it has none of its own."""
        rates = _RATES.get(self.capability, _RATES["8.6"])
        fallback = {"TF32": "FP32", "INT8": "DP4A"}.get(math, "FP32")
        return rates.get(math, rates.get(fallback, rates["FP32"])) * self.clock_ghz * 1e3

    def has(self, math: str) -> bool:
        """Whether the GPU has this arithmetic."""
        return math in _RATES.get(self.capability, _RATES["8.6"])


KNOWN = (
    Specs("GeForce GTX 1070", 15, 1.683, 256, "6.1", 2),
    Specs("Tesla V100", 80, 1.53, 900, "7.0", 6),
    Specs("Tesla T4", 40, 1.59, 320, "7.5", 4),
    Specs("GeForce RTX 2060", 30, 1.68, 336, "7.5", 3),
    Specs("TITAN RTX", 72, 1.77, 672, "7.5", 6),
    Specs("A100-PCIE-40GB", 108, 1.41, 1555, "8.0", 40),
    Specs("A100 80GB PCIe", 108, 1.41, 1935, "8.0", 40),
    Specs("A30", 56, 1.44, 933, "8.0", 24),
    Specs("A10", 72, 1.695, 600, "8.6", 6),
    Specs("GeForce RTX 3060", 28, 1.777, 360, "8.6", 3),
    Specs("GeForce RTX 3080 Ti", 80, 1.665, 912, "8.6", 6),
    Specs("GeForce RTX 3090", 82, 1.695, 936, "8.6", 6),
    Specs("L4", 58, 2.04, 300, "8.9", 48),
    Specs("L40S", 142, 2.52, 864, "8.9", 48),
    Specs("GeForce RTX 4070", 46, 2.475, 504, "8.9", 36),
    Specs("GeForce RTX 4090", 128, 2.52, 1008, "8.9", 72),
    Specs("H100 PCIe", 114, 1.755, 2039, "9.0", 50),
    Specs("H100 SXM", 132, 1.98, 3352, "9.0", 50),
    Specs("GeForce RTX 5070", 48, 2.512, 672, "12.0", 48),
    Specs("Jetson AGX Xavier", 8, 1.377, 137, "7.2", 0.5),
    Specs("Jetson Xavier NX", 6, 1.1, 59.7, "7.2", 0.5),
    Specs("Jetson AGX Orin 64GB", 16, 1.3, 204.8, "8.7", 4),
    Specs("Jetson AGX Orin 32GB", 14, 0.93, 204.8, "8.7", 4),
    Specs("Jetson Orin NX 16GB", 8, 0.918, 102.4, "8.7", 2),
    Specs("Jetson Orin Nano 8GB", 8, 0.625, 68.3, "8.7", 2),
    Specs("Jetson Orin Nano 8GB Super", 8, 1.02, 102.4, "8.7", 2),
)
# What Jetsons call themselves says only the family: its largest module stands for it.
_ALIASES = {"orin": "jetson agx orin 64gb", "xavier": "jetson agx xavier"}


def published(name: str) -> Specs | None:
    """Published specifications of the GPU that `name` means: its words all in the known name, the shortest first."""
    plain = " ".join(name.lower().replace("nvidia", "").replace("-", " ").replace("_", " ").split())
    words = _ALIASES.get(plain, plain).split()
    found = [s for s in KNOWN if all(w in _squeezed(s.gpu) for w in words)]
    exact = [s for s in found if _squeezed(s.gpu).replace(" ", "") == "".join(words)]
    return min(exact or found, key=lambda s: len(s.gpu), default=None) if words else None


def _squeezed(name: str) -> str:
    return name.lower().replace("-", " ")
