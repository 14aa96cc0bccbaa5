"""Errors of reading an ONNX model."""

from quantbench.inspection.errors.entry import ErrorEntry, error

ENTRIES: tuple[ErrorEntry, ...] = (
    error(
        "plugin-not-found",
        "getPluginCreator could not find plugin: … version: 1",
        r"could not find plugin|Plugin not found, are the plugin name|importFallbackPluginImporter",
        "The parser does not know this operator, took it for a plugin, and no library that is loaded has one of that "
        "name.",
        (
            "an ONNX operator that this version lacks (Round, GridSample, NonZero in older ones)",
            "a custom operator whose plugin library was not loaded: --plugin LIB.so (trtexec: --staticPlugins=LIB.so)",
            "a plugin of TensorRT's own that is newer than this version (EfficientNMS_TRT wants 8.0)",
            "the standard plugins were not initialized (initLibNvInferPlugins)",
        ),
        "quantbench build MODEL.onnx --plugin LIB.so; for a plain ONNX operator take a newer TensorRT",
        "onnx/onnx-tensorrt#800",
    ),
    error(
        "no-importer",
        "No importer registered for op: …. Attempting to import as plugin.",
        r"No importer registered for op|UNSUPPORTED_NODE|[Uu]nsupported ONNX operator",
        "The parser has no importer for this ONNX operator.",
        (
            "the operator came with a later ONNX opset or TensorRT: see `docs/operators.md` of onnx-tensorrt",
            "it is a plugin: its library must be loaded before parsing",
            "an operator of onnxruntime's own domain (com.microsoft) left by an optimizer",
        ),
        "export at the opset that this version knows; quantbench inspect MODEL.onnx names the operators",
        "open-mmlab/mmdeploy#38",
    ),
    error(
        "newer-ir",
        "ONNX model has a newer ir_version (0.0.4) than this parser was built against (0.0.3).",
        r"newer ir_version|[Uu]nsupported (?:ONNX )?opset|opset .* (?:is )?not supported|newer opset",
        "The model was exported for a later ONNX than the parser was made for. It often works all the same.",
        (
            "an exporter newer than TensorRT",
            "an opset above what this version reads: 7.0 up to 11, 8.6 up to 17, 10.0 up to 20",
        ),
        "export again with a lower opset_version",
        "linghu8812/tensorrt_inference#12",
    ),
    error(
        "no-output",
        "Network must have at least one output",
        r"must have at least one output",
        "Parsing failed before this line and the program went on without looking: the network is empty.",
        (
            "the parser's own error stands above, or was never printed (print parser.get_error(i))",
            "the ONNX file was not found, or its external data is missing",
            "a network made by hand without markOutput",
        ),
        "quantbench build MODEL.onnx prints the parser's error with its node",
        "NVIDIA/TensorRT#814",
    ),
    error(
        "weights-count",
        "…: kernel weights has count 2688 but 32640 was expected",
        r"(?:kernel|bias|shift|scale|power) weights has count|count of \d+ weights in kernel|does not match tensor dim",
        "A layer was given another number of weights than its shape needs.",
        (
            "code that rebuilds the net (tensorrtx, .wts files) for another number of classes, width or version",
            "count 0: the weights are no constants in the ONNX (a QLinear or QOperator model, or a conv whose weights "
            "are computed)",
            "shift weights: a BatchNormalization or InstanceNormalization whose scale and bias have another length "
            "than the channels",
        ),
        "set the number of classes in the config of that code; for ONNX: quantbench inspect MODEL.onnx, and fold "
        "constants (polygraphy surgeon sanitize --fold-constants)",
        "wang-xinyu/tensorrtx#1513",
    ),
    error(
        "int64-weights",
        "Your ONNX model has been generated with INT64 weights, while TensorRT does not natively support INT64. "
        "Attempting to cast down to INT32.",
        r"INT64 weights|outside the range of INT32 was clamped",
        "Shape constants are cast to INT32. Harmless; clamped ends of slices (INT64's maximum) are meant.",
        ("every PyTorch export with TensorRT before 10",),
        "nothing to do",
        "spacewalk01/depth-anything-tensorrt#6",
    ),
    error(
        "not-weights",
        "Assertion failed: inputs.at(1).is_weights()",
        r"is_weights\(\)|must be an? (?:initializer|constant)|convertOnnxWeights|must be initializers?\b",
        "An operator's input must be a constant here and is computed in the model.",
        (
            "constants that were not folded on export: pads, axes, repeats computed from shapes",
            "weights of a type that the parser cannot read",
        ),
        "fold constants: polygraphy surgeon sanitize MODEL.onnx --fold-constants -o FOLDED.onnx",
        "onnx/onnx-tensorrt#682",
    ),
    error(
        "reshape-volume",
        "IShuffleLayer …: reshape changes volume. Reshaping […] to […].",
        r"reshape (?:would )?changes? volume|reshape would change volume|reshap\w+ failed|no integer solution",
        "A Reshape with a fixed shape meets an input of another size.",
        (
            "a batch size or image size burnt into the model on export, and another one asked for with --shapes",
            "a constant in the graph edited by hand, or a model exported for another input size",
        ),
        "export with dynamic axes, or build with the size that the model was exported for: quantbench build MODEL.onnx",
        "NVIDIA/TensorRT#3990",
    ),
)
