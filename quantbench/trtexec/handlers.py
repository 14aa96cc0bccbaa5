"""What each kind of flag does to a translation."""

import re

from quantbench.errors import QuantbenchError
from quantbench.trtexec.flag import Handler, Translation


def build(option: str) -> Handler:
    """A switch of `build`."""
    return lambda t, value: t.build.append(option)


def build_value(option: str) -> Handler:
    """An option of `build` with the value as it stands."""
    return lambda t, value: t.build.extend([option, value])


def bench(option: str) -> Handler:
    """A switch of `bench`."""
    return lambda t, value: t.bench.append(option)


def bench_value(option: str) -> Handler:
    """An option of `bench` with the value as it stands."""
    return lambda t, value: t.bench.extend([option, value])


def precision(name: str) -> Handler:
    """A precision that the builder may use."""

    def handle(t: Translation, value: str) -> None:
        t.precisions.append(name)
        t.int8 = t.int8 or name == "int8"

    return handle


def nothing(t: Translation, value: str) -> None:
    """Ours does so anyway."""


def changed(flag: str, words: str, then: Handler = nothing) -> Handler:
    """Done in another way, which the user should know."""

    def handle(t: Translation, value: str) -> None:
        t.changed.append((flag, words))
        then(t, value)

    return handle


def lost(flag: str, words: str) -> Handler:
    """Not done."""
    return lambda t, value: t.lost.append((flag, words))


def warm_up(t: Translation, value: str) -> None:
    """Milliseconds there, seconds here."""
    t.bench.extend(["--warm-up", f"{number(value, 'warmUp') / 1000:g}"])


def duration(t: Translation, value: str) -> None:
    """Seconds in both; 0 means "as many calls as --iterations says"."""
    t.bench.extend(["--duration", f"{number(value, 'duration'):g}"])


def workspace(t: Translation, value: str) -> None:
    """MiB, of versions 8.x and older."""
    t.build.extend(["--pool", f"workspace={number(value, 'workspace'):g}M"])


_POOLS = {
    "workspace": "workspace", "dlasram": "dla_managed_sram", "dlalocaldram": "dla_local_dram",
    "dlaglobaldram": "dla_global_dram", "tacticsharedmem": "tactic_shared_memory", "tacticdram": "tactic_dram",
}  # fmt: skip


def pools(t: Translation, value: str) -> None:
    """`workspace:4096,dlaSRAM:1K`: MiB without a suffix."""
    for part in filter(None, value.split(",")):
        name, colon, size = part.partition(":")
        if not colon or name.lower() not in _POOLS:
            raise QuantbenchError(f"--memPoolSize={value}: {part!r} is not POOL:SIZE with {', '.join(_POOLS)}")
        unit = size[-1:].upper() if size[-1:].isalpha() else "M"
        amount = size[:-1] if size[-1:].isalpha() else size
        bytes_ = f"{number(amount, 'memPoolSize'):g}{'' if unit == 'B' else unit}"
        t.build.extend(["--pool", f"{_POOLS[name.lower()]}={bytes_}"])


def layer_precisions(t: Translation, value: str) -> None:
    """`conv*:fp16,head:fp32`: names may hold colons, so each part is split at its last one."""
    for part in filter(None, value.split(",")):
        name, colon, kinds = part.rpartition(":")
        kind = kinds.split("+")[0].lower()
        if not colon or kind not in ("fp32", "fp16", "bf16", "int8"):
            raise QuantbenchError(
                f"--layerPrecisions={value}: {part!r} is not LAYER:PRECISION with fp32, fp16, bf16, int8"
            )
        t.build.extend(["--layer-precision", f"{name}={kind}"])


def shapes(kind: str) -> Handler:
    """`x:1x3x224x224,'Input:0':1x4`: inputs apart by commas, each split at its last colon."""

    def handle(t: Translation, value: str) -> None:
        found = t.shapes.setdefault(t.profile, {}).setdefault(kind, {})
        # People also write x:[1,3,224,224], which trtexec refuses.
        plain = re.sub(r"[\[(]([\d, ]+)[\])]", lambda m: re.sub(r"[, ]+", "x", m[1].strip()), value)
        for part in filter(None, plain.split(",")):
            name, colon, dims = part.rpartition(":")
            if not colon:
                # Before 8.0 a network has one input and shapes may stand alone.
                raise QuantbenchError(f"--{kind}={value}: {part!r} is not INPUT:DIMS, like x:1x3x224x224")
            found[name.strip("'\"\\")] = dims.lower().strip("'\"")

    return handle


_SOURCES = {"cublaslt": "CUBLAS_LT", "cublas": "CUBLAS", "cudnn": "CUDNN"}


def tactic_sources(t: Translation, value: str) -> None:
    """`-cublasLt,+cublas`: 8.x spells them in two ways."""
    names = [f"{part[:1]}{_SOURCES.get(part[1:].lower(), part[1:].upper())}" for part in filter(None, value.split(","))]
    t.build.extend(["--tactic-sources", ",".join(names)])


def profile(t: Translation, value: str) -> None:
    """The profile that the shapes behind it belong to."""
    t.profile = int(number(value, "profile"))


def device(t: Translation, value: str) -> None:
    """The GPU."""
    t.environment.append(f"CUDA_VISIBLE_DEVICES={value}")


def hardware(t: Translation, value: str) -> None:
    """`ampere+`, `sameComputeCapability`, `none`."""
    names = {"ampere+": "ampere_plus", "samecomputecapability": "same_compute_capability"}
    if value.lower() != "none":
        if value.lower() not in names:
            raise QuantbenchError(
                f"--hardwareCompatibilityLevel={value} is none of none, ampere+, sameComputeCapability"
            )
        t.build.extend(["--hardware-compatible", names[value.lower()]])


def sparsity(t: Translation, value: str) -> None:
    """`enable`, `disable`, `force`."""
    if value.lower() == "force":
        t.lost.append(
            ("--sparsity=force", "weights are not overwritten to be 2:4 sparse; --sparsity uses those that are")
        )
    if value.lower() != "disable":
        t.build.append("--sparsity")


def constraints(t: Translation, value: str) -> None:
    """`prefer`, `obey`, `none`."""
    if value.lower() != "none":
        t.build.extend(["--precision-constraints", value.lower()])


def calibration_cache(t: Translation, value: str) -> None:
    """Ranges of the float model."""
    t.calib = value


def saved_engine(t: Translation, value: str) -> None:
    """Where the engine goes."""
    t.engine = value


def loaded_engine(t: Translation, value: str) -> None:
    """An engine to run, not to build."""
    t.loads = value


def onnx_model(t: Translation, value: str) -> None:
    """The model."""
    t.model = value


def skip_inference(t: Translation, value: str) -> None:
    """Build only."""
    t.build_only = True


def timing_cache(t: Translation, value: str) -> None:
    """A file there, a folder here."""
    folder = value.rpartition("/")[0] or "."
    t.build.extend(["--timing-cache", folder])
    t.changed.append(("--timingCacheFile", f"quantbench keeps one file a version and GPU in the folder {folder}"))


def inputs(t: Translation, value: str) -> None:
    """`x:x.bin,'y:0':y.bin`."""
    for part in filter(None, value.split(",")):
        name, _, file = part.rpartition(":")
        t.bench.extend(["--input", f"{name.strip(chr(39))}={file}"])


def threads(t: Translation, value: str) -> None:
    """Streams driven by a thread each."""
    t.threaded = True


def number(text: str, flag: str) -> float:
    """`text` as a number. Raises QuantbenchError naming the flag."""
    try:
        return float(text)
    except ValueError as error:
        raise QuantbenchError(f"--{flag}={text} is no number") from error
