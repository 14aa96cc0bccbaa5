"""All that differs between the backends, in tables. The adapters carry it out; nothing else asks for a version."""

from collections.abc import Mapping
from dataclasses import dataclass

TENSORRT10 = "tensorrt10"
TENSORRT11 = "tensorrt11"
TENSORRT_RTX = "tensorrt-rtx"
ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True)
class Facts:
    """One backend. `typed_by_model`: types come from the ONNX file alone, so precision requests become edits of it."""

    title: str
    typed_by_model: bool
    has_calibrators: bool
    builds_without_gpu: bool
    install: str


_TENSORRT = "pip install 'quantbench[tensorrt]' '{}' (it needs an NVIDIA GPU)"
FACTS: Mapping[str, Facts] = {
    TENSORRT10: Facts("TensorRT", False, True, False, _TENSORRT.format("tensorrt>=10,<11")),
    TENSORRT11: Facts("TensorRT", True, False, False, _TENSORRT.format("tensorrt>=11")),
    TENSORRT_RTX: Facts("TensorRT-RTX", True, False, True, "pip install tensorrt-rtx (x86-64 Linux or Windows)"),
    ONNXRUNTIME: Facts("onnxruntime", True, False, True, "pip install onnxruntime"),
}

# What TensorRT-RTX 1.7 runs on: Turing to Blackwell without the data-center chips (it refused an H200, sm90).
RTX_GPUS = frozenset({"sm75", "sm80", "sm86", "sm89", "sm120", "sm121"})

# BuildOptions field to the BuilderFlag that carries it out.
FLAGS: Mapping[str, str] = {
    "refittable": "REFIT",
    "version_compatible": "VERSION_COMPATIBLE",
    "exclude_lean_runtime": "EXCLUDE_LEAN_RUNTIME",
    "sparsity": "SPARSE_WEIGHTS",
    "gpu_fallback": "GPU_FALLBACK",
}
# Weak typing (TensorRT 10 and older): precision to the BuilderFlags that allow it.
PRECISION_FLAGS: Mapping[str, tuple[str, ...]] = {
    "fp32": (),
    "tf32": ("TF32",),
    "fp16": ("FP16",),
    "bf16": ("BF16",),
    "int8": ("INT8",),
    "best": ("FP16", "BF16", "TF32"),
}
CONSTRAINT_FLAGS: Mapping[str, str] = {"obey": "OBEY_PRECISION_CONSTRAINTS", "prefer": "PREFER_PRECISION_CONSTRAINTS"}
DATA_TYPES: Mapping[str, str] = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "int8": "INT8"}

_OTHER_GPU = "it builds for the GPU of this machine; for another GPU use --backend tensorrt-rtx"
_TYPED = "types come from the ONNX file; keep layers in float when they are quantized (quantbench ptq --keep-float)"
_NO_WEAK = "its networks are strongly typed; ask for --precision, and quantbench edits the ONNX before the build"
_FREE = "onnxruntime decides it at run time; leave it out"
_CPU_FLOAT = "its CPU kernels compute in FP32, so half precision only adds casts; ask for fp32 or int8"
_UNTIMED = "ahead of time no kernel is timed and none chosen; its runtime does that on the GPU"
_NEEDS_TRT = "it is TensorRT's; use --backend tensorrt"

# Option as the user writes it → backend that lacks it → what to do instead.
LACKS: Mapping[str, Mapping[str, str]] = {
    "--target": {TENSORRT10: _OTHER_GPU, TENSORRT11: _OTHER_GPU, ONNXRUNTIME: _NEEDS_TRT},
    "--weakly-typed": {TENSORRT11: _NO_WEAK, TENSORRT_RTX: _NO_WEAK, ONNXRUNTIME: _NO_WEAK},
    "--layer-precision": {TENSORRT11: _TYPED, TENSORRT_RTX: _TYPED, ONNXRUNTIME: _TYPED},
    "--precision-constraints": {TENSORRT11: _TYPED, TENSORRT_RTX: _TYPED, ONNXRUNTIME: _TYPED},
    "--shapes": {ONNXRUNTIME: _FREE},
    "--pool": {ONNXRUNTIME: _NEEDS_TRT},
    "--timing-cache": {
        TENSORRT_RTX: "ahead of time nothing is timed; its runtime keeps a cache of its own",
        ONNXRUNTIME: _NEEDS_TRT,
    },
    "--tactic-sources": {ONNXRUNTIME: _NEEDS_TRT},
    "--optimization-level": {ONNXRUNTIME: _NEEDS_TRT},
    "--refittable": {ONNXRUNTIME: _NEEDS_TRT},
    "--version-compatible": {
        TENSORRT_RTX: "its wheel has no lean runtime; ship the same tensorrt-rtx with the engine",
        ONNXRUNTIME: "an ONNX file is that already; leave it out",
    },
    "--exclude-lean-runtime": {
        TENSORRT_RTX: "its wheel has no lean runtime to leave out",
        ONNXRUNTIME: "an ONNX file holds no runtime; leave it out",
    },
    "--plugin": {ONNXRUNTIME: "its custom operators are registered in the program that runs it"},
    "--serialize-plugins": {ONNXRUNTIME: "its custom operators are registered in the program that runs it"},
    "--avg-timing": {TENSORRT_RTX: _UNTIMED, ONNXRUNTIME: _NEEDS_TRT},
    "--aux-streams": {ONNXRUNTIME: _NEEDS_TRT},
    "--build-route": {
        TENSORRT10: "routes came with TensorRT 11.1; --optimization-level and --tactic-sources steer 10 and older",
        TENSORRT_RTX: "its tuner is switched off; leave it out",
        ONNXRUNTIME: _NEEDS_TRT,
    },
    "--forbid-tactic": {
        TENSORRT11: "its algorithm selector is gone; --choose KEY=TACTIC edits the timing cache, --replay FILE.timing "
        "takes one again",
        TENSORRT_RTX: _UNTIMED,
        ONNXRUNTIME: _NEEDS_TRT,
    },
    "--choose": {TENSORRT_RTX: _UNTIMED, ONNXRUNTIME: _NEEDS_TRT},
    "--replay": {TENSORRT_RTX: _UNTIMED, ONNXRUNTIME: _NEEDS_TRT},
    "--hardware-compatible": {
        TENSORRT_RTX: "name every GPU family instead: --target sm80,sm86,sm89,sm120",
        ONNXRUNTIME: "an ONNX file is that already; leave it out",
    },
    "--sparsity": {ONNXRUNTIME: _NEEDS_TRT},
    "--dla-core": {TENSORRT_RTX: _NEEDS_TRT, ONNXRUNTIME: _NEEDS_TRT},
    "--gpu-fallback": {TENSORRT_RTX: _NEEDS_TRT, ONNXRUNTIME: _NEEDS_TRT},
    "--precision tf32": {ONNXRUNTIME: _NEEDS_TRT},
    "--precision bf16": {ONNXRUNTIME: _CPU_FLOAT},
    "--precision fp16": {ONNXRUNTIME: _CPU_FLOAT},
    "--precision best": {ONNXRUNTIME: _CPU_FLOAT},
}
# Options that the backend has, but not on a machine without a GPU (RTX 1.7: Myelin wants CUDA for a refit build).
NEEDS_GPU: Mapping[str, frozenset[str]] = {"--refittable": frozenset({TENSORRT_RTX})}
# Members of an enum that a version dropped, and why; others are listed from the bindings themselves.
GONE: Mapping[str, str] = {
    "CUBLAS": "gone since TensorRT 11; leave it out",
    "CUBLAS_LT": "gone since TensorRT 11; leave it out",
    "CUDNN": "gone since TensorRT 11; leave it out",
}
