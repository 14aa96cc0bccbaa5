"""Every flag of trtexec 8.0 to 11.4. Sources: the help texts in `samples/common/sampleOptions.cpp` of NVIDIA/TensorRT
(8.0 to 10), and the pages "Migrating trtexec Usage" 8.x to 10.x and 10.x to 11.x of NVIDIA's documentation."""

from quantbench.trtexec import handlers as h
from quantbench.trtexec.flag import Flag, Handler, Translation

_CAST = "on TensorRT 11 and RTX, which lost the flag, quantbench casts the ONNX"
_QDQ = "types of Q/DQ come from the model; nothing to ask for"
_CAFFE = "Caffe, UFF and implicit batches are gone: export the model to ONNX"
_WEAK = "TensorRT 10 and older; 11 and RTX take types from the ONNX: quantbench ptq --keep-float NAME"
_LOGGED = "quantbench build writes the layers and the verbose log beside the engine; quantbench inspect shows them"


# Versions that have a flag: from, to ("" = before 8, and still there in 11).
_Versions = tuple[str, str]


def _flag(name: str, value: str, group: str, versions: _Versions, ours: str, handle: Handler, words: str = "") -> Flag:
    return Flag(name, value, group, *versions, ours, words, handle)


def _gone(name: str, value: str, group: str, versions: _Versions, words: str) -> Flag:
    return Flag(name, value, group, *versions, "", words, h.lost(f"--{name}", words))


def _other(name: str, value: str, group: str, versions: _Versions, ours: str, words: str, then: Handler) -> Flag:
    return Flag(name, value, group, *versions, ours, words, h.changed(f"--{name}", words, then))


def _serialized(t: Translation, value: str) -> None:
    t.build.extend(["--plugin", value, "--serialize-plugins"])


def _plugin(t: Translation, value: str) -> None:
    t.build.extend(["--plugin", value])
    t.bench.extend(["--plugin", value])


def _stem(path: str) -> str:
    head, _, tail = path.rpartition("/")
    name = tail.rpartition(".")[0] or tail
    return f"{head}/{name}" if head else name


_MODEL = (
    _flag("onnx", "<file>", "model", ("", ""), "the model of `build`", h.onnx_model),
    _gone("uff", "<file>", "model", ("", "8"), _CAFFE),
    _gone("uffInput", "<name>,X,Y,Z", "model", ("", "8"), _CAFFE),
    _gone("uffNHWC", "", "model", ("", "8"), _CAFFE),
    _gone("deploy", "<file>", "model", ("", "8"), _CAFFE),
    _gone("model", "<file>", "model", ("", "8"), _CAFFE),
    _gone("output", "<name>[,<name>]*", "model", ("", "8"), _CAFFE),
)
_BUILD = (
    _gone("maxBatch", "N", "build", ("", "8"), _CAFFE),
    _flag("explicitBatch", "", "build", ("", "8"), "always so", h.nothing),
    _flag("minShapes", "spec", "build", ("", ""), "`build --shapes INPUT=MIN:OPT:MAX`", h.shapes("minShapes")),
    _flag("optShapes", "spec", "build", ("", ""), "`build --shapes`", h.shapes("optShapes")),
    _flag("maxShapes", "spec", "build", ("", ""), "`build --shapes`", h.shapes("maxShapes")),
    _gone("minShapesCalib", "spec", "build", ("", "10"), "TensorRT calibrates at the opt shapes of the first profile"),
    _gone("optShapesCalib", "spec", "build", ("", "10"), "TensorRT calibrates at the opt shapes of the first profile"),
    _gone("maxShapesCalib", "spec", "build", ("", "10"), "TensorRT calibrates at the opt shapes of the first profile"),
    _flag("profile", "N", "build", ("8.6", ""), "`build --shapes`, once a profile", h.profile),
    _gone("inputIOFormats", "spec", "build", ("", ""), "types and formats of inputs are the model's"),
    _gone("outputIOFormats", "spec", "build", ("", ""), "types and formats of outputs are the model's"),
    _flag("workspace", "N", "build", ("", "8"), "`build --pool workspace=NM`", h.workspace),
    _flag("memPoolSize", "spec", "build", ("8.4", ""), "`build --pool NAME=SIZE`", h.pools),
    _flag("profilingVerbosity", "mode", "build", ("8.2", ""), "always detailed", h.nothing),
    _gone("minTiming", "M", "build", ("", "8"), "kernels are timed as often as the version does by itself"),
    _flag("avgTiming", "M", "build", ("", ""), "`build --avg-timing`", h.build_value("--avg-timing")),
    _flag("refit", "", "build", ("", ""), "`build --refittable`", h.build("--refittable")),
    _gone("stripWeights", "", "build", ("10.0", ""), "engines keep their weights"),
    _gone("stripAllWeights", "", "build", ("10.2", ""), "engines keep their weights"),
    _gone("weightless", "", "build", ("9.0", "10"), "engines keep their weights"),
    _flag(
        "versionCompatible", "", "build", ("8.6", ""), "`build --version-compatible`", h.build("--version-compatible")
    ),
    _flag("vc", "", "build", ("8.6", ""), "`build --version-compatible`", h.build("--version-compatible")),
    _flag(
        "excludeLeanRuntime",
        "",
        "build",
        ("8.6", ""),
        "`build --exclude-lean-runtime`",
        h.build("--exclude-lean-runtime"),
    ),
    _flag("useRuntime", "full|lean|dispatch", "build", ("8.6", ""), "`bench --runtime`", h.bench_value("--runtime")),
    _gone("leanDLLPath", "<file>", "build", ("8.6", ""), "the lean runtime of the installed package is taken"),
    _gone("nativeInstanceNorm", "", "build", ("8.6", "10"), "TensorRT decides how to read InstanceNormalization"),
    _gone("uint8AsymmetricQuantizationDLA", "", "build", ("10.3", ""), "quantbench's INT8 is symmetric"),
    _flag("sparsity", "enable|disable|force", "build", ("8.0", ""), "`build --sparsity`", h.sparsity),
    _other(
        "noTF32",
        "",
        "build",
        ("", ""),
        "`build --precision fp32`",
        "fp32 alone means without TF32",
        h.precision("fp32"),
    ),
    _flag("fp16", "", "build", ("", "10"), "`build --precision fp16`", h.precision("fp16"), _CAST),
    _flag("bf16", "", "build", ("9.0", "10"), "`build --precision bf16`", h.precision("bf16"), _CAST),
    _flag(
        "int8",
        "",
        "build",
        ("", "10"),
        "`build --precision int8`, or nothing for a Q/DQ model",
        h.precision("int8"),
        "a Q/DQ model needs no flag; else --ranges, --calib-dir or quantbench ptq",
    ),
    _flag("fp8", "", "build", ("8.6", "10"), "nothing needed", h.nothing, _QDQ),
    _flag("int4", "", "build", ("10.0", "10"), "nothing needed", h.nothing, _QDQ),
    _flag("best", "", "build", ("", "10"), "`build --precision best`", h.precision("best"), _CAST),
    _flag(
        "stronglyTyped",
        "",
        "build",
        ("9.0", ""),
        "`build --strongly-typed`",
        h.build("--strongly-typed"),
        "TensorRT 11 is always so",
    ),
    _gone("directIO", "", "build", ("8.2", "10"), "reformats at inputs and outputs are TensorRT's to place"),
    _flag(
        "precisionConstraints",
        "none|prefer|obey",
        "build",
        ("8.2", "10"),
        "`build --precision-constraints`",
        h.constraints,
        _WEAK,
    ),
    _flag(
        "layerPrecisions",
        "spec",
        "build",
        ("8.2", "10"),
        "`build --layer-precision NAME=PRECISION`",
        h.layer_precisions,
        _WEAK,
    ),
    _gone(
        "layerOutputTypes",
        "spec",
        "build",
        ("8.2", "10"),
        "types of outputs follow from the layers' precisions (--layer-precision)",
    ),
    _gone("layerDeviceTypes", "spec", "build", ("8.4", ""), "--dla-core sets the device of all layers that it can"),
    _gone("decomposableAttentions", "spec", "build", ("10.14", ""), "TensorRT decides which attentions it fuses"),
    _flag(
        "calib",
        "<file>",
        "build",
        ("", "10"),
        "`build --ranges`",
        h.calibration_cache,
        "for TensorRT 11: quantbench cache to-qdq CACHE MODEL.onnx",
    ),
    _gone("safe", "", "build", ("", ""), "the safety runtime is not supported"),
    _gone("consistency", "", "build", ("8.2", ""), "the safety runtime is not supported"),
    _gone("restricted", "", "build", ("8.2", ""), "the safety runtime is not supported"),
    _gone("buildDLAStandalone", "", "build", ("8.5", ""), "loadables for cuDLA alone are not built; see --dla-core"),
    _other(
        "skipInference",
        "",
        "build",
        ("8.6", ""),
        "`build` alone",
        "build and bench are two commands here",
        h.skip_inference,
    ),
    _flag("buildOnly", "", "build", ("", "8"), "`build` alone", h.skip_inference),
    _flag("saveEngine", "<file>", "build", ("", ""), "`build --out`", h.saved_engine),
    _flag("loadEngine", "<file>", "build", ("", ""), "`bench ENGINE`", h.loaded_engine),
    _gone("getPlanVersionOnly", "", "build", ("10.0", ""), "quantbench inspect ENGINE names the version"),
    _flag("tacticSources", "+NAME,-NAME", "build", ("", ""), "`build --tactic-sources`", h.tactic_sources),
    _gone(
        "noBuilderCache",
        "",
        "build",
        ("", ""),
        "the timing cache is off unless --timing-cache names a folder, or the "
        "default folder ~/.cache/quantbench/timing is used",
    ),
    _gone("noCompilationCache", "", "build", ("10.0", ""), "the compilation cache is TensorRT's to use"),
    _flag("timingCacheFile", "<file>", "build", ("8.0", ""), "`build --timing-cache FOLDER`", h.timing_cache),
    _gone("errorOnTimingCacheMiss", "", "build", ("10.0", ""), "a kernel that the cache lacks is timed"),
    _other(
        "heuristic",
        "",
        "build",
        ("8.5", "8"),
        "`build --optimization-level 2`",
        "level 2 is what took its place in 8.6",
        lambda t, v: t.build.extend(["--optimization-level", "2"]),
    ),
    _flag(
        "builderOptimizationLevel",
        "N",
        "build",
        ("8.6", ""),
        "`build --optimization-level`",
        h.build_value("--optimization-level"),
    ),
    _gone("maxTactics", "N", "build", ("10.7", ""), "as many kernels are timed as the version does by itself"),
    _flag("hardwareCompatibilityLevel", "mode", "build", ("8.6", ""), "`build --hardware-compatible`", h.hardware),
    _gone("runtimePlatform", "platform", "build", ("10.7", ""), "engines are built for this platform"),
    _gone("tempdir", "<dir>", "build", ("8.6", ""), "TensorRT's default folder is used"),
    _gone("tempfileControls", "spec", "build", ("8.6", ""), "TensorRT's defaults are used"),
    _flag("maxAuxStreams", "N", "build", ("8.6", ""), "`build --aux-streams`", h.build_value("--aux-streams")),
    _gone("preview", "spec", "build", ("8.5", ""), "preview features are left as the version has them"),
    _gone("allowWeightStreaming", "", "build", ("10.0", ""), "weights stay on the GPU"),
    _gone("weightStreamingBudget", "spec", "build", ("10.0", ""), "weights stay on the GPU"),
    _gone("tilingOptimizationLevel", "N", "build", ("10.8", ""), "TensorRT's default is used"),
    _gone("l2LimitForTiling", "N", "build", ("10.8", ""), "TensorRT's default is used"),
    _gone("remoteAutoTuningConfig", "spec", "build", ("10.12", ""), "kernels are timed on this machine"),
    _gone("distributiveIndependence", "", "build", ("10.14", ""), "TensorRT's default is used"),
    _gone("markDebug", "spec", "build", ("10.0", ""), "quantbench ptq measures the error of each layer in its report"),
    _gone(
        "markUnfusedTensorsAsDebugTensors",
        "",
        "build",
        ("10.12", ""),
        "quantbench ptq measures the error of each layer in its report",
    ),
    _gone("saveDebugTensors", "spec", "inference", ("10.0", ""), "quantbench ptq measures the error of each layer"),
    _gone(
        "saveAllDebugTensors", "formats", "inference", ("10.12", ""), "quantbench ptq measures the error of each layer"
    ),
    _flag("setBuildRoute", "route", "build", ("11.1", ""), "`build --build-route`", h.build_value("--build-route")),
    _gone(
        "tuneBuildRoutes",
        "spec",
        "build",
        ("11.1", ""),
        "the search over routes is trtexec's: run it there, and give the route that won to --build-route",
    ),
    _gone("cpuOnly", "", "build", ("RTX", ""), "TensorRT-RTX builds without a GPU by itself: --backend tensorrt-rtx"),
    _flag("computeCapabilities", "spec", "build", ("RTX", ""), "`build --target`", h.build_value("--target")),
    _gone("refitFromOnnx", "<file>", "build", ("10.6", ""), "quantbench refit ENGINE MODEL.onnx -o NEW does that"),
)
_SYSTEM = (
    _flag("device", "N", "system", ("", ""), "`CUDA_VISIBLE_DEVICES=N`", h.device),
    _flag("useDLACore", "N", "system", ("", ""), "`build --dla-core`", h.build_value("--dla-core")),
    _flag("allowGPUFallback", "", "system", ("", ""), "`build --gpu-fallback`", h.build("--gpu-fallback")),
    _flag("plugins", "<file>", "system", ("", ""), "`--plugin`, of build and bench", _plugin),
    _flag("staticPlugins", "<file>", "system", ("8.6", ""), "`--plugin`", _plugin),
    _flag("dynamicPlugins", "<file>", "system", ("8.6", ""), "`--plugin`, `build --serialize-plugins`", _serialized),
    _flag("setPluginsToSerialize", "<file>", "system", ("8.6", ""), "`build --serialize-plugins`", _serialized),
    _gone(
        "ignoreParsedPluginLibs",
        "",
        "system",
        ("8.6", ""),
        "libraries that the parser names are serialized with --serialize-plugins alone",
    ),
)
_INFERENCE = (
    _gone("batch", "N", "inference", ("", "8"), _CAFFE),
    _flag("shapes", "spec", "inference", ("", ""), "`--shapes`, of build and bench", h.shapes("shapes")),
    _flag("loadInputs", "name:file,…", "inference", ("", ""), "`bench --input NAME=FILE`", h.inputs),
    _flag("iterations", "N", "inference", ("", ""), "`bench --iterations`", h.bench_value("--iterations")),
    _flag("warmUp", "ms", "inference", ("", ""), "`bench --warm-up`, in seconds", h.warm_up),
    _flag("duration", "s", "inference", ("", ""), "`bench --duration`", h.duration),
    _gone("sleepTime", "ms", "inference", ("", ""), "calls follow one another at once"),
    _gone("idleTime", "ms", "inference", ("8.4", ""), "calls follow one another at once"),
    _flag("streams", "N", "inference", ("", "8.4"), "`bench --streams`", h.bench_value("--streams")),
    _flag("infStreams", "N", "inference", ("8.5", ""), "`bench --streams`", h.bench_value("--streams")),
    _flag("exposeDMA", "", "inference", ("", ""), "always so", h.nothing),
    _flag("noDataTransfers", "", "inference", ("", ""), "`bench --no-data-transfers`", h.bench("--no-data-transfers")),
    _gone("useManagedMemory", "", "inference", ("8.2", ""), "buffers are device memory, page-locked on the host"),
    _flag("useSpinWait", "", "inference", ("", ""), "`bench --spin-wait`", h.bench("--spin-wait")),
    _flag("threads", "", "inference", ("", ""), "`bench --contexts N`", h.threads, "each in a thread of its own"),
    _flag("useCudaGraph", "", "inference", ("", ""), "`bench --cuda-graph`", h.bench("--cuda-graph")),
    _gone("timeDeserialize", "", "inference", ("8.0", ""), "loading is not timed"),
    _gone("timeRefit", "", "inference", ("8.0", ""), "refitting is not timed"),
    _flag("separateProfileRun", "", "inference", ("", ""), "always so", h.nothing),
    _gone("persistentCacheRatio", "R", "inference", ("8.5", ""), "the L2 is left as it is"),
    _flag("useProfile", "N", "inference", ("8.6", ""), "`bench --profile-index`", h.bench_value("--profile-index")),
    _gone("allocationStrategy", "spec", "inference", ("10.1", ""), "TensorRT's default is used"),
    _gone("nvtxMode", "mode", "inference", ("", "8"), "TensorRT's own ranges are as verbose as it makes them"),
    _gone("nvtxVerbosity", "mode", "inference", ("8.6", ""), "TensorRT's own ranges are as verbose as it makes them"),
    _gone("asyncFileReader", "", "inference", ("10.7", ""), "the engine is read whole"),
    _gone("monitorMemory", "", "inference", ("10.8", ""), "not shown"),
)
_REPORT = (
    _flag("verbose", "", "report", ("", ""), "always: the verbose log lies beside the engine", h.nothing),
    _gone("avgRuns", "N", "report", ("", ""), "percentiles are over all calls"),
    _gone("percentile", "P,…", "report", ("", ""), "min, max, mean, median, p90, p95 and p99 are printed"),
    _gone("dumpRefit", "", "report", ("", ""), "quantbench refit lists what is refitted"),
    _gone("dumpOutput", "", "report", ("", ""), "outputs are compared, not printed: quantbench ptq"),
    _gone("dumpRawBindingsToFile", "", "report", ("8.6", ""), "outputs are compared, not printed: quantbench ptq"),
    _other(
        "dumpProfile",
        "",
        "report",
        ("", ""),
        "`bench --profile FILE`",
        "written as JSON, which quantbench inspect shows",
        lambda t, v: t.bench.extend(["--profile", f"{_stem(t.engine or t.loads or t.model)}.profile.json"]),
    ),
    _other("dumpLayerInfo", "", "report", ("8.2", ""), "`inspect ENGINE`", _LOGGED, h.nothing),
    _flag("exportTimes", "<file>", "report", ("", ""), "`bench --times FILE`", h.bench_value("--times")),
    _gone("exportOutput", "<file>", "report", ("", ""), "outputs are compared, not written: quantbench ptq"),
    _flag("exportProfile", "<file>", "report", ("", ""), "`bench --profile`", h.bench_value("--profile")),
    _other("exportLayerInfo", "<file>", "report", ("8.2", ""), "`inspect ENGINE`", _LOGGED, h.nothing),
    _flag("help", "", "report", ("", ""), "`quantbench build --help`", h.nothing),
)


FLAGS: dict[str, Flag] = {f.name: f for group in (_MODEL, _BUILD, _SYSTEM, _INFERENCE, _REPORT) for f in group}
