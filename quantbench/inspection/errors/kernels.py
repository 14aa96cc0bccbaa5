"""Errors of choosing and running kernels, and of memory."""

from quantbench.inspection.errors.entry import ErrorEntry, error

ENTRIES: tuple[ErrorEntry, ...] = (
    error(
        "no-implementation",
        "Error Code 10: Internal Error (Could not find any implementation for node ….)",
        r"Could not find any implementation for node",
        "No kernel could run this fused node: each was unsupported, did not fit in memory, or failed while timed.",
        (
            "too little memory: the lines before it say `Skipping tactic … insufficient memory` or `Scratch requested`",
            "a Q/DQ placement without a kernel: a residual Add fused to a depthwise conv, one whose other input is "
            "float, few channels, INT8 on a GPU without it; 8.6 has many such gaps that 10 closed",
            "a fault of the version: try the newest patch of it, or the next one",
            "a plugin in the node that refuses all formats",
        ),
        "quantbench build MODEL.onnx --pool workspace=4G; then quantbench ptq FLOAT.onnx --calib-dir IMAGES "
        "--keep-float NODE for the conv that the error names",
        "NVIDIA/TensorRT#3579",
    ),
    error(
        "foreign-node-no-implementation",
        "Could not find any implementation for node {ForeignNode[a...b]}",
        r"Could not find any implementation for node \{ForeignNode",
        "Myelin, which compiles the block from a to b as one, failed on it.",
        (
            "too little memory for the block: `Skipping tactic 0 due to insufficient memory` stands before it",
            "a fault of the version in one operator of the block: it often goes with the next minor version",
            "data-dependent shapes or control flow inside the block",
        ),
        "quantbench build MODEL.onnx --pool workspace=8G, then with the next TensorRT; cut the model at a and b to "
        "find "
        "the operator",
        "NVIDIA/TensorRT#1917",
    ),
    error(
        "out-of-memory",
        "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
        r"OutOfMemory|[Rr]equested amount of (?:GPU )?memory|out of memory",
        "The GPU had too little free memory for weights, activations or the scratch space of a kernel.",
        (
            "other processes hold the memory (on a Jetson the desktop and the CPU share it)",
            "the maximum shape of the profile is larger than needed",
            "a workspace limit above what the GPU has: it is asked for in full while kernels are timed",
        ),
        "nvidia-smi shows who holds it; quantbench build MODEL.onnx --pool workspace=1G --shapes with a smaller "
        "maximum",
        "NVIDIA/TensorRT#3882",
    ),
    error(
        "tactic-memory",
        "Tactic Device request: …MB Available: …MB. Device memory is insufficient to use tactic.",
        r"Device memory is insufficient to use tactic|Skipping tactic .*insuf|insufficient memory on requested size",
        "One kernel did not fit and was left out. The engine is right; it may be slower than on an idle GPU.",
        (
            "little free memory, typical of Jetson Nano and Orin Nano",
            "the workspace is limited below what the kernel wants",
        ),
        "build on an idle machine with more swap, or quantbench build MODEL.onnx --pool workspace=SIZE to fix the "
        "limit",
        "ultralytics/ultralytics#17338",
    ),
    error(
        "illegal-memory",
        "Error Code 1: Cuda Runtime (an illegal memory access was encountered)",
        r"illegal memory access",
        "A kernel read or wrote outside its buffers. Everything after it fails as well: only the first line counts.",
        (
            "a buffer of the program: too small for the shape, freed, or on the CPU",
            "a plugin that writes past its output",
            "another library on the same context (torch, PyCUDA) that failed before",
            "a fault of TensorRT: compare with the next version",
        ),
        "compute-sanitizer --tool memcheck PROGRAM names the kernel; quantbench bench ENGINE runs the engine with "
        "buffers of the right size",
        "NVIDIA/TensorRT#2835",
    ),
    error(
        "plugin-execute-failed",
        "[pluginV2DynamicExtRunner.cpp::execute::115] Error Code 2: Internal Error (Assertion status == "
        "kSTATUS_SUCCESS "
        "failed.)",
        r"plugin\w*Runner\.c\w+::execute|status == kSTATUS_SUCCESS",
        "A plugin's enqueue returned an error.",
        (
            "shapes or types at run time that the plugin was not written for",
            "a plugin built for another CUDA or another GPU architecture",
        ),
        "run the plugin alone in a network of one layer; compute-sanitizer --tool memcheck names the kernel",
        "NVIDIA/TensorRT#1898",
    ),
    error(
        "strict-mode",
        "No implementation of layer … obeys the requested constraints in strict mode. No conforming implementation was "
        "found i.e. requested layer computation precision and output precision types are ignored",
        r"obeys the requested constraints|No implementation obeys reduced",
        "The layer has no kernel of the precision that was asked for, and runs in another. A warning: the build goes "
        "on.",
        (
            "INT8 asked for Shuffle, Softmax, Concat and others that know none",
            "an output type set that the layer cannot give",
        ),
        "quantbench inspect BUILD.log lists the layers in float; leave those out of --layer-precision",
        "NVIDIA/TensorRT#1231",
    ),
    error(
        "dla-unsupported",
        "Layer '…' (CONSTANT): Unsupported on DLA. Switching this layer's device type to GPU.",
        r"[Uu]nsupported on DLA|not supported on DLA|DLA (?:validation|only supports|cores? do)|GPU fallback is not",
        "The DLA lacks this layer (or this shape of it). With GPU fallback it moves to the GPU; without, the build "
        "fails.",
        (
            "constants, slices, element-wise work on more or fewer than 4 dimensions, activations it lacks",
            "reformats at the borders: even a net that fits wants GPU fallback, or DLA formats for inputs and outputs",
            "FP32: the DLA knows FP16 and INT8 alone",
        ),
        "quantbench build MODEL.onnx --dla-core 0 --gpu-fallback --precision fp16; quantbench cache from-qdq makes "
        "ranges "
        "of a Q/DQ model, which DLA before 11.4 wants in place of Q/DQ",
        "NVIDIA/TensorRT#3438",
    ),
)
