"""How a message is told by its beginning, or by a phrase inside where it begins with a layer's name."""

# First word of the message -> ((beginning of the message, kind), ...), first match wins. "" matches always.
_STARTS: tuple[tuple[str, str], ...] = (
    # parsing the network
    ("Input filename:", "onnx-header"), ("ONNX IR version:", "onnx-header"), ("Opset version:", "onnx-header"),
    ("Producer name:", "onnx-header"), ("Producer version:", "onnx-header"), ("Domain:", "onnx-header"),
    ("Model version:", "onnx-header"), ("Doc string:", "onnx-header"), ("----------------------", "onnx-header"),
    ("Adding network input:", "network-io"), ("Marking ", "network-io"),
    ("Importing initializer:", "import-initializer"),
    ("Parsing node:", "parse-node"), ("Static check for parsing node:", "parse-node"),
    ("Searching for input:", "search-input"),
    ("Registering ", "register"),
    ("Convolution input dimensions:", "import-detail"), ("Convolution output dimensions:", "import-detail"),
    ("Using kernel:", "import-detail"), ("Using opA:", "import-detail"),
    ("Kernel weights are not set", "import-detail"),
    ("Original shape:", "import-detail"), ("Weight at index", "import-detail"), ("GEMM:", "import-detail"),
    ("Weight ", "import-detail"), ("Weights ", "import-detail"), ("Reshaping ", "import-detail"),
    ("Running resize layer with:", "import-detail"), ("Running deconvolution", "import-detail"),
    ("Transformation mode:", "import-detail"), ("Interpolation mode:", "import-detail"),
    ("Resize mode:", "import-detail"), ("Coordinate transformation:", "import-detail"),
    ("Mode:", "import-detail"), ("Using Gather axis:", "import-detail"), ("Casting ", "import-detail"),
    ("Casting to type:", "import-detail"), ("Slice ", "import-detail"), ("Permutation:", "import-detail"),
    ("Emulating ", "import-detail"), ("Unable to ", "import-detail"), ("Deducing ", "import-detail"),
    ("Your ONNX model has been generated with INT64 weights", "import-detail"),
    ("One or more weights", "import-detail"),
    ("Network has dynamic", "import-detail"), ("Dequantizing ", "import-detail"), ("Quantizing ", "import-detail"),
    ("Using layer ", "import-detail"), ("Tensor DataType", "import-detail"), ("Using Alpha", "import-detail"),
    ("SYMBOLIC CHECKS", "graph-dump"), ("GRAPH NODES", "graph-dump"),
    # optimizer
    ("Original: ", "stage"), ("After ", "stage"),
    ("QDQ graph optimizer", "phase"), ("QDQ optimization pass", "phase"), ("Applying ", "phase"),
    ("Trying to split Reshape", "phase"), ("Trying to ", "library"),
    ("Running: ", "pass-run"), ("Fusing ", "fuse"),
    ("QuantizeDoubleInputNodes: fusing", "quantize-fuse"), ("QuantizeSingleInputNodes: fusing", "quantize-fuse"),
    ("Removing ", "remove"), ("Swapping ", "swap"), ("Swap the layer type of", "retype"),
    ("Merging layers:", "merge"), ("Merging ", "merge"),
    ("Eliminating concatenation", "concat-removal"), ("Eliminating slice", "slice-removal"),
    ("Eliminating ", "duplicate"), ("Retargeting ", "retarget"), ("Generating copy for", "copy"),
    ("ForeignNode ", "myelin"), ("[MYELIN]", "myelin"), (" (foreignNode)", "myelin"), ("(foreignNode)", "myelin"),
    ("Compiler backend ", "build"), ("Autotuning ", "myelin"),
    # quantization
    ("INT8 Inference Tensor scales and zero-points:", "scale"), ("INT8 Inference Tensor Scales:", "scale"),
    ("Missing scale and zero-point", "missing-scale"), ("Missing dynamic range", "missing-scale"),
    ("Rejecting ", "rejected-int8"), ("Reading Calibration Cache", "calibration"),
    ("Calibrat", "calibration"), ("Calibrator", "calibration"), ("Starting Calibration", "calibration"),
    ("Calibrated batch", "calibration"), ("Post Processing Calibration", "calibration"),
    ("Writing Calibration Cache", "calibration"), ("No calibration cache", "calibration"),
    ("Explicit precision", "precision"), ("For layer ", "precision"), ("No implementation of layer", "precision"),
    ("No implementation obeys", "precision"), ("Int8 support requested", "precision"),
    ("Half2 support requested", "precision"), ("TF32 ", "precision"),
    # choosing kernels
    ("=============== Computing", "cost"), ("*************** Autotuning", "autotune"),
    ("--------------- Timing Runner:", "runner"), ("--------------- Layers Running", "placement"),
    ("---------- Layers Running on", "placement"), ("--------------- Chose", "chosen"),
    ("Tactic: ", "tactic"), ("Tactic Name:", "tactic"), ("Fastest Tactic:", "fastest"), (">>>>>>>", "chosen"),
    ("Skipping tactic", "tactic-skip"), ("Skipping ", "tactic-skip"), ("UNSUPPORTED_STATE:", "tactic-skip"),
    ("OutOfMemory ", "tactic-skip"), ("Tactic Device request", "tactic-skip"), ("Skipped printing memory", "memory"),
    ("Timing cache", "timing-cache"), ("Local timing cache", "timing-cache"), ("Global timing cache", "timing-cache"),
    ("[GlobalTimingCache]", "timing-cache"), ("Could not read timing cache", "timing-cache"),
    ("Loaded ", "library"), ("Loaded engine size", "engine"), ("Saved ", "timing-cache"),
    ("Adding reformat layer:", "reformat"),
    # engine
    ("[DlaLayer]", "placement"), ("[GpuLayer]", "placement"), ("[DLA]", "placement"),
    ("[MemUsageChange]", "memory"), ("[MemUsageSnapshot]", "memory"), ("[MemUsageStats]", "memory"),
    ("[BlockAssignment]", "memory"), ("[MS]", "memory"), ("[GpuAllocator]", "memory"), ("[VirtualMemory", "memory"),
    ("Block size", "memory"), ("Total ", "memory"), ("Max Scratch Memory", "memory"), ("Layer: ", "memory"),
    ("Allocated ", "memory"), ("- Runner scratch", "memory"), ("- Activations", "memory"),
    ("Some tactics do not have sufficient workspace", "memory"), ("Reserving memory", "memory"),
    ("Memory ", "memory"), ("STATS: ", "memory"), ("BlockAssignment", "memory"),
    ("Finalize: ", "kernel"), ("Kernel: ", "kernel"), ("Kernels:", "kernel"), ("Found ", "build"),
    ("Graph construction", "build"), ("Graph optimization time", "build"), ("Engine generation", "build"),
    ("Engine built in", "build"), ("Building graph using", "build"), ("Constructing optimization profile", "build"),
    ("Formats and tactics selection", "build"), ("Subgraph compilation", "build"), ("Detected ", "build"),
    ("InternalBuildFlags", "build"), ("Disabling unused tactic source", "library"),
    ("Adding 1 engine", "engine"), ("Adding ", "engine"), ("Deserialization required", "engine"),
    ("Serialized ", "engine"), ("Engine loaded in", "engine"), ("Engine deserialized", "engine"),
    ("Created engine with size", "engine"), ("Saving engine", "engine"), ("Set user's cuda kernel library", "library"),
    ("Engine Layer Information:", "layer-dump"), ("Layers:", "layer-dump"), ("Layer Information:", "layer-dump"),
    ("Bindings:", "layer-dump"), ("I/O Tensors:", "layer-dump"), ("Engine Metadata:", "layer-dump"),
    ("Layer(", "layer"),
    # trtexec
    ("&&&&", "trtexec"), ("===", "section"), ("Starting inference", "run"), ("Warmup completed", "run"),
    ("Timing trace has", "run"), ("Trace averages", "run"), ("Average on ", "run"), ("Using random values", "run"),
    ("Input binding for", "run"), ("Output binding for", "run"), ("Created input binding", "run"),
    ("Created output binding", "run"), ("Setting persistentCacheLimit", "run"), ("Using values loaded", "run"),
    ("Capturing CUDA graph", "run"), ("Successfully captured CUDA graph", "run"), ("CUDA graph", "run"),
    ("Set shape of", "run"), ("Dynamic dimensions required", "run"), ("The engine has", "run"),
    ("Iteration ", "run"), ("Completed ", "run"), ("Explanations of the performance metrics", "explanation"),
    ("Start parsing network model", "build"), ("Finish parsing network model", "build"),
    ("Finished parsing network model", "build"), ("Skipped inference phase", "run"), ("Skip inference", "run"),
    ("Throughput:", "summary"), ("Latency:", "summary"), ("Enqueue Time:", "summary"), ("H2D Latency:", "summary"),
    ("D2H Latency:", "summary"), ("GPU Compute Time:", "summary"), ("Total Host Walltime:", "summary"),
    ("Total GPU Compute Time:", "summary"), ("Host Latency", "summary"), ("GPU Compute", "summary"),
    ("Host latency", "summary"), ("End-to-End Host Latency:", "summary"),
    # surroundings
    ("Registered plugin creator", "plugin"), ("Plugin creator", "plugin"), ("Local registry", "plugin"),
    ("Global registry", "plugin"), ("Registering plugin", "plugin"), ("Loading supplied plugin", "plugin"),
    ("Using cublas", "library"), ("Using cuBLAS", "library"), ("Using cuDNN", "library"), ("Using cublasLt", "library"),
    ("Using cuBlas", "library"), ("Applied generic", "phase"), ("CUDA lazy loading", "library"),
    ("Linked against", "library"), ("TensorRT was linked against", "library"), ("TensorRT version:", "option"),
    ("Convert layer type of", "retype"), ("-----------SqueezePushDown", "pass-run"),
    ("Deleting timing cache", "timing-cache"), ("FP32 and ", "precision"), ("FP32, ", "precision"),
    ("The profiling verbosity was set", "layer-dump"), ("The e2e network timing", "run"), ("To show e2e", "run"),
    ("Loading standard plugins", "plugin"), ("Setting workspace to", "memory"),
    (" Try increasing the workspace", "memory"), (" Example of equivalent trtexec option: --memPoolSize", "memory"),
    ("Enabling FP8 fusions", "build"), ("Set number of tactics", "build"), ("Use backend strategy", "build"),
    ("Chose this engine with backend strategy", "build"), ("Skip backend strategy", "build"),
    ("Serializing timing cache", "timing-cache"), ("STILL ALIVE:", "memory"), ("Using enqueueV", "run"),
    ("Explanations of", "explanation"),
    ("Transformation mode:", "import-detail"),
)  # fmt: skip

BY_FIRST_WORD: dict[str, tuple[tuple[str, str], ...]] = {}
for _start, _kind in sorted(_STARTS, key=lambda rule: -len(rule[0])):
    _word = _start.split(" ", 1)[0]
    BY_FIRST_WORD[_word] = (*BY_FIRST_WORD.get(_word, ()), (_start, _kind))

# Beginnings that stop inside a word ("===", "Calibrat"), tried by their first three letters.
BY_LETTERS: dict[str, tuple[tuple[str, str], ...]] = {}
for _start, _kind in sorted(_STARTS, key=lambda rule: -len(rule[0])):
    if " " not in _start:
        BY_LETTERS[_start[:3]] = (*BY_LETTERS.get(_start[:3], ()), (_start, _kind))

# For messages that begin with a layer's or node's name. Order matters: the more particular first.
PHRASES: tuple[tuple[str, str], ...] = (
    (" Set Tactic Name: ", "tactic-name"),
    (" profiling completed in ", "fastest"),
    ("] inputs: ", "node-inputs"), ("] outputs: ", "node-outputs"), ("] inputs:", "node-inputs"),
    (": Fusing ", "fuse"), (": fusing ", "quantize-fuse"),
    (" got cached result: ", "timing-cache"),
    (" has no valid tactics for this config, skipping", "tactic-skip"),
    (" is the only option, timing skipped", "tactic-skip"),
    (" scale and zero-point Quantization(", "scale"),
    (" Set kernel index", "kernel"),
    (" is deprecated", "deprecation"), ("deprecated", "deprecation"),
    (", skipping", "tactic-skip"),
)  # fmt: skip
