"""Errors of engines, versions, drivers and GPUs."""

from quantbench.inspection.errors.entry import ErrorEntry, error

ENTRIES: tuple[ErrorEntry, ...] = (
    error(
        "engine-version",
        "The engine plan file is not compatible with this version of TensorRT, expecting library version 8.5.1.7 got "
        "8.5.3.1, please rebuild.",
        r"plan file is not compatible with this version|expecting library version",
        "The engine was built by another TensorRT than the one that loads it.",
        (
            "an engine file kept through an upgrade (JetPack, container)",
            "two TensorRTs on one machine: the Python package and the system's libnvinfer",
        ),
        "build again with the TensorRT that runs it: quantbench build MODEL.onnx; or build once with "
        "--version-compatible (8.6 on)",
        "RootKit-Org/AI-Aimbot#109",
    ),
    error(
        "version-tag",
        "Serialization assertion stdVersionRead == serializationVersion failed. Version tag does not match. Note: "
        "Current Version: 213, Serialized Engine Version: 205",
        r"Version tag does not match|[sS]erializationVersion failed|SERIALIZATION_VERSION|[mM]agic ?[Tt]ag",
        "As before, in the words of the archive reader: the file was written by another version, or is no engine.",
        (
            "built by another version; the numbers are those of the format, not of TensorRT",
            "trtexec of one version and Python of another (see LD_LIBRARY_PATH)",
            "a damaged or half-copied file, or Git LFS's pointer in its place",
        ),
        "quantbench doctor shows the versions that Python loads; then build again",
        "NVIDIA/TensorRT#2041",
    ),
    error(
        "other-gpu",
        "The engine plan file is generated on an incompatible device, expecting compute 8.6 got compute 7.5, please "
        "rebuild.",
        r"generated on an incompatible device|expecting compute \d",
        "An engine runs on the GPU model that it was built on (or the same compute capability, with a warning).",
        ("built on a workstation for a Jetson, or on another card of the farm",),
        "build on the target; or quantbench build MODEL.onnx --hardware-compatible ampere_plus, or --backend "
        "tensorrt-rtx --target sm86,sm89",
        "NVIDIA/TensorRT#2176",
    ),
    error(
        "unsupported-gpu",
        "Error Code 9: API Usage Error (Target GPU SM 61 is not supported by this TensorRT release.)",
        r"Target GPU SM \d+ is not supported|Unsupported SM|SM version not supported|fixSMVerForNVRTC",
        "This TensorRT has no kernels for this GPU.",
        (
            "too old: 10 ends at Turing (sm75), 10.0 to 10.4 at Volta, 8.6 knows Pascal",
            "too new: the version came out before the card (sm120 wants 10.8, sm89 8.5)",
        ),
        "quantbench doctor shows the GPU and the version; install the TensorRT that knows it",
        "NVIDIA/TensorRT#4359",
    ),
    error(
        "cuda-35",
        "CUDA initialization failure with error: 35. Please check your CUDA installation",
        r"[Cc][Uu][Dd][Aa] initialization failure|cudaErrorInsufficientDriver|driver version is insufficient",
        "CUDA could not start. 35: the driver is older than the CUDA that TensorRT was built for; 100: no GPU is seen; "
        "2: no memory.",
        (
            "an old driver, or a container without --gpus all",
            "libcuda stubs or another CUDA first in LD_LIBRARY_PATH",
            "a missing permission on /dev/nvidia*",
        ),
        "nvidia-smi, then quantbench doctor; without a GPU quantbench build --backend tensorrt-rtx works all the same",
        "NVIDIA/TensorRT#2879",
    ),
    error(
        "strongly-typed-flag",
        "Parameter check failed at: builder.cpp::createNetworkBuildConfig, condition: "
        "!config.getFlag(BuilderFlag::kFP16)",
        r"!config\.getFlag\(BuilderFlag::k\w+\)|strongly typed.*(?:flag|precision)|kSTRONGLY_TYPED",
        "Precision flags and a strongly typed network exclude each other: its types come from the ONNX.",
        (
            "--fp16 or --int8 with --stronglyTyped; or a program that sets the flag for every network",
            "TensorRT 11, where every network is strongly typed and the flags are gone",
        ),
        "quantbench build MODEL.onnx --precision fp16, which casts the ONNX where the version wants that",
        "NVIDIA/TensorRT#4228",
    ),
    error(
        "cudnn-mismatch",
        "TensorRT was linked against cuDNN 8.9.0 but loaded cuDNN 8.0.4",
        r"was linked against .* but loaded",
        "Another cuDNN or cuBLAS is first on the library path than the one that TensorRT was built with. A warning, "
        "and a cause of wrong answers and crashes.",
        ("torch's or the system's cuDNN comes first in LD_LIBRARY_PATH",),
        "put the version named first on the path, or leave those sources out: quantbench build MODEL.onnx "
        "--tactic-sources -CUDNN,-CUBLAS,-CUBLAS_LT",
        "NVIDIA/TensorRT#4053",
    ),
)
