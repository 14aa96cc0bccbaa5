"""Errors of calibration, ranges and Q/DQ."""

from quantbench.inspection.errors.entry import ErrorEntry, error

ENTRIES: tuple[ErrorEntry, ...] = (
    error(
        "no-scaling-factors",
        "Calibration failure occurred with no scaling factors detected. This could be due to no int8 calibrator or "
        "insufficient custom scales for network layers.",
        r"no scaling factors detected",
        "INT8 was asked for, the network has no Q/DQ, and the builder was given neither ranges nor a calibrator.",
        (
            "no calibrator and no cache: the config that holds the calibrator is not the one that is built with",
            "the model was meant to carry Q/DQ and lost them on export",
            "the calibrator gave no batch, or the cache names other tensors than this network",
        ),
        "quantbench ptq MODEL.onnx --calib-dir IMAGES, which writes a model with Q/DQ; or quantbench cache "
        "check CACHE MODEL.onnx to see which names fit",
        "ELS-RD/transformer-deploy#43",
    ),
    error(
        "calibrator-not-used",
        "Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32 or Bool.",
        r"Calibrator is not being used",
        "INT8 without a calibrator: ranges must come from the program. On its own this is a warning; tensors that get "
        "no range run in float.",
        (
            "a Q/DQ model built with --int8: harmless, the ranges are in the model",
            "trtexec --int8 without --calib: it makes ranges up, the engine is good for timing only",
            "a program that forgot to set the calibrator",
        ),
        "quantbench inspect MODEL.onnx tells whether the model carries Q/DQ; quantbench ptq MODEL.onnx "
        "--calib-dir IMAGES puts them in",
        "NVIDIA/TensorRT#2998",
    ),
    error(
        "missing-scale",
        "Missing scale and zero-point for tensor …, expect fall back to non-int8 implementation for any layer "
        "consuming "
        "or producing given tensor",
        r"Missing scale and zero-point for tensor|Missing dynamic range for tensor",
        "This tensor has no range, so each layer that reads or makes it runs in float. A warning: the build goes on.",
        (
            "shape arithmetic, constants and outputs of the network: no harm",
            "the cache was calibrated on another export of the model, whose tensors have other names",
            "the data never reached that branch",
        ),
        "quantbench cache check CACHE MODEL.onnx",
        "NVIDIA/TensorRT#4058",
    ),
    error(
        "uniformly-zero",
        "Tensor … is uniformly zero; network calibration failed.",
        r"is uniformly zero",
        "All calibration batches gave nothing but zeros in this tensor, so it has no range.",
        (
            "the calibrator hands on the wrong buffer, or one that was never filled",
            "preprocessing differs from training, so that detections or activations vanish",
            "a plugin that gives nothing while calibrating",
        ),
        "quantbench ptq MODEL.onnx --calib-dir IMAGES, which names tensors without a value and needs no plugin "
        "to calibrate what lies before it",
        "NVIDIA/TensorRT#521",
    ),
    error(
        "calibrator-illegal-memory",
        "[calibrator.cpp::add::793] Error Code 1: Cuda Runtime (an illegal memory access was encountered)",
        r"calibrator\.c\w+.*(?:illegal memory access|Assertion memory != nullptr)|absTensorMax",
        "The calibrator's get_batch gave an address that the GPU cannot read.",
        (
            "get_batch returns the address of a host array (numpy, or a torch tensor on the CPU)",
            "the device buffer was freed or is smaller than the batch: one address an input, of the full batch",
            "trtexec --int8 --calib with a cache that it does not use: it then calibrates with no data",
            "several GPUs: the buffer lies on another device than the builder",
        ),
        "quantbench build MODEL.onnx --precision int8 --calib-dir IMAGES --calibrator entropy2 (it copies host arrays "
        "itself); else quantbench ptq MODEL.onnx --calib-dir IMAGES, which calibrates without TensorRT",
        "NVIDIA/TensorRT#4053",
    ),
    error(
        "int8-not-configured",
        "Int8 precision has been set for a layer or layer output, but int8 is not configured in the builder",
        r"[Ii]nt8 (?:precision )?.*is not configured in the builder|precision.*but int8 is not",
        "The network asks for INT8 (Q/DQ nodes, or a layer's precision) and the builder may not use it.",
        (
            "a Q/DQ model built without --int8 (BuilderFlag.INT8) by TensorRT 8 or a weakly typed 10",
            "a layer precision of int8 set by hand without the flag",
        ),
        "quantbench build MODEL.onnx, which sets what the model needs; with trtexec add --int8 (8 to 10) or "
        "--stronglyTyped (9 on)",
        "NVIDIA/TensorRT#2348",
    ),
    error(
        "asymmetric-zero-point",
        'Assertion failed: shiftIsAllZeros(zeroPoint) && "TRT only supports symmetric quantization - zeroPt must be '
        "all "
        'zeros"',
        r"shiftIsAllZeros|symmetric quantization|[Nn]on-zero zero point",
        "A Q or DQ has a zero point that is not 0. TensorRT's INT8 is symmetric.",
        (
            "the model was quantized by onnxruntime or torch with the defaults for CPUs (UINT8, asymmetric)",
            "dynamic quantization (quantize_dynamic): it is none for TensorRT",
            "only the activations are asymmetric: ActivationSymmetric was not set",
        ),
        "quantbench lint MODEL.onnx names the nodes; quantize the float model again: quantbench ptq FLOAT.onnx "
        "--calib-dir IMAGES",
        "NVIDIA/TensorRT#2774",
    ),
    error(
        "scale-not-positive",
        'Assertion failed: scaleAllPositive && "Scale coefficients must all be positive"',
        r"scaleAllPositive|[Ss]cale coefficients must all be positive|scale.*must be positive",
        "A Q or DQ has a scale of 0, or below.",
        (
            "weights of a channel that are all zero (pruned, or never trained) with a scale computed from their "
            "maximum",
            "a tensor that was zero on all calibration data",
            "scales stored in FP16 that underflow to 0",
        ),
        "quantbench lint MODEL.onnx names the node; quantbench ptq FLOAT.onnx --calib-dir IMAGES keeps all "
        "scales above 0",
        "NVIDIA-AI-IOT/Lidar_AI_Solution#182",
    ),
    error(
        "invalid-weights-type",
        "…: invalid weights type of Int8",
        r"invalid weights type of (?:Int8|UInt8|Bool|INT8)",
        "An INT8 (or Bool) constant stands where TensorRT 8 takes float weights: it wants `float weight -> Q -> DQ`.",
        (
            "weights were folded to INT8 with only a DQ behind (onnxruntime's default export, ModelOpt's compressed "
            "one)",
            "constant folding (onnxsim, ONNX optimizers) removed the Q behind the weights",
            "a zero point shared through an Identity, which becomes a constant of its own",
        ),
        "quantbench lint MODEL.onnx --fix; or build it with TensorRT 10, which takes INT8 constants behind a DQ",
        "microsoft/onnxruntime#11535",
    ),
    error(
        "candidates-empty",
        "Assertion !n->candidateRequirements.empty() failed. All of the candidates were removed, which points to the "
        "node being incorrectly marked as an int8 node.",
        r"candidate(?:Requirements|Choices)\.empty\(\)|candidateChoices|All of the candidates were removed",
        "Q/DQ around a node say that it runs in INT8, and it has no INT8 implementation for these shapes and formats.",
        (
            "Q/DQ around a layer that knows no INT8: a plugin, LayerNorm, Softmax, odd poolings",
            "a fault of 8.6 with depthwise and grouped convs (mended in 9 and 10)",
            "a plugin that offers INT8 only, with a Q/DQ pair where a Q before and a DQ behind was meant",
        ),
        "quantbench ptq FLOAT.onnx --calib-dir IMAGES --keep-float NODE, or quantbench predict MODEL.onnx to "
        "see which node it is",
        "NVIDIA/TensorRT#3040",
    ),
    error(
        "negative-axis",
        "[scaleNode.cpp::getChannelAxis::20] Error Code 2: Internal Error (… [Quantize]: unexpected negative axis)",
        r"getChannelAxis|unexpected negative axis|axis.*(?:Quantize|DequantizeLinear)",
        "A Q or DQ layer with several scales has no axis to lay them along.",
        (
            "addQuantize with a scale of one element and no axis set: give a scalar, or axis 0",
            "a scale of as many values as the tensor has not in that dimension",
        ),
        "quantbench lint MODEL.onnx",
        "NVIDIA/TensorRT#1362",
    ),
)
