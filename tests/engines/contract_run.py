"""Runs of the TensorRT adapters against the real bindings, in a process that `tests.bindings` starts.

Prints JSON: what was used, what was called, and which members of the bindings the adapters' source names.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import tensorrt

from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.calibrator import Calibrator
from quantbench.engines import (
    refit,
    tactic_choice,
    tensorrt10,
    tensorrt11,
    tensorrt_bench,
    tensorrt_calibrator,
    tensorrt_common,
    tensorrt_layers,
    tensorrt_profile,
    tensorrt_session,
)
from quantbench.engines.base import BuildOptions
from quantbench.engines.facts import CONSTRAINT_FLAGS, DATA_TYPES, FLAGS, PRECISION_FLAGS
from quantbench.engines.shapes import parse_profile
from quantbench.errors import QuantbenchError
from scripts import torch_engine
from tests.engines.host_device import HostDevice
from tests.engines.models import conv_net
from tests.engines.replica import Contract, signatures

MAJOR = int(tensorrt.__version__.partition(".")[0])
MODEL = Path("model.onnx")
PROFILE = parse_profile("x=1x3x8x8:4x3x8x8:8x3x8x8")

NETWORK = """
import numpy as np
def make(network, trt):
    x = network.add_input("x", trt.float32, (-1, 3, 8, 8))
    weights = np.ones((4, 3, 3, 3), np.float32)
    conv = network.add_convolution_nd(x, 4, (3, 3), trt.Weights(weights), trt.Weights())
    conv.name = "conv"
    network.mark_output(conv.get_output(0))
    return weights
def fails(network):
    network.add_everything()
"""


def answers(**more: Any) -> dict[str, Any]:
    return {
        "ITensor.name": "x",
        "ITensor.shape": (-1, 3, 8, 8),
        "ITensor.dtype": tensorrt.DataType.FLOAT,
        "ILayer.name": "conv0",
        "ILayer.type": tensorrt.LayerType.CONVOLUTION,
        "IBuilderConfig.add_optimization_profile": 0,
        "IBuilderConfig.get_tactic_sources": 0,
        "Builder.build_serialized_network": b"engine",
        "ITimingCache.serialize": b"timings",
        "IPluginRegistry.load_library": object(),
        **more,
    }


def build(options: BuildOptions, model: Path = MODEL, **more: Any) -> dict[str, Any]:
    contract = Contract(tensorrt, answers(**more))
    trt = contract.module()
    outcome: dict[str, Any] = {"used": contract.used, "calls": contract.calls, "error": None, "notes": []}
    try:
        if MAJOR >= 11:
            result = tensorrt11.build(trt, model, options)
        else:
            result = tensorrt10.build(trt, model, options, HostDevice())
        assert result.engine == b"engine"
        outcome["notes"] = result.notes
    except QuantbenchError as error:
        outcome["error"] = str(error)
    return outcome


def batches() -> Iterator[dict[str, Any]]:
    yield {"x": np.ones((4, 3, 8, 8), np.float32)}


def builds(scratch: Path) -> dict[str, dict[str, Any]]:
    own = scratch / "net.py"
    own.write_text(NETWORK)
    both = {
        "plain": build(BuildOptions()),
        "function": build(BuildOptions(), Path(f"{own}:make")),
        "function fails": build(BuildOptions(), Path(f"{own}:fails")),
        "everything": build(
            BuildOptions(
                precisions=frozenset({"fp32"}), profiles=(PROFILE,), pools={"workspace": 1 << 30},
                timing_cache=scratch / "a.timing", tactic_sources=("+jit_convolutions", "-edge_mask_convolutions"),
                optimization_level=4, refittable=True, version_compatible=True, hardware_compatible="ampere_plus",
                sparsity=True, dla_core=0, gpu_fallback=True, exclude_lean_runtime=True, avg_timing=4, aux_streams=0,
                plugins=(scratch / "p.so",), serialize_plugins=True, build_route="a.b" if MAJOR >= 11 else "",
            )
        ),
        "no such plugin": build(
            BuildOptions(plugins=(Path("p.so"),)), **{"IPluginRegistry.load_library": None}
        ),
        "replay of timings": build(BuildOptions(replay=scratch / "a.timing")),
        "timing cache again": build(BuildOptions(timing_cache=scratch / "a.timing")),
        "parser refuses": build(BuildOptions(), **{"OnnxParser.parse_from_file": False,
                                "ParserError.node_name": "boxes",
                                "ParserError.desc": "no importer", "ParserError.node_operator": "NonMaxSuppression"}),
        "builder refuses": build(BuildOptions(), **{"Builder.build_serialized_network": None}),
        "profile refused": build(BuildOptions(), **{"IBuilderConfig.add_optimization_profile": -1}),
        "unknown pool": build(BuildOptions(pools={"swimming": 1})),
    }  # fmt: skip
    if MAJOR >= 11:
        key = "0x" + 16 * "0a"
        chosen = BuildOptions(timing_cache=scratch / "a.timing", choose_tactics=((key, "0x8000000000000001"),))
        return {
            **both,
            "old tactic source": build(BuildOptions(tactic_sources=("+CUDNN",))),
            "chosen": build(chosen),
            "no such key": build(chosen, **{"ITimingCache.update": False}),
            "no key": build(replace(chosen, choose_tactics=(("conv*", "0x1"),))),
            "nothing to edit": build(replace(chosen, timing_cache=None)),
            "replay of a log": build(BuildOptions(replay=Path("b.log"))),
        }
    int8 = frozenset({"int8", "fp16"})
    quantize = {"ILayer.type": tensorrt.LayerType.QUANTIZE}
    return {
        **both,
        "old tactic source": build(BuildOptions(tactic_sources=("+CUDNN",))),
        "route": build(BuildOptions(build_route="a.b")),
        "tactics": build(BuildOptions(forbid_tactics=("0x1",), choose_tactics=(("conv*", "0x2"),))),
        "tactic without a log": build(BuildOptions(forbid_tactics=("sm80_*",))),
        "strongly typed": build(BuildOptions(strongly_typed=True)),
        "function with calibrator": build(
            BuildOptions(precisions=int8, calibrator=Calibrator(batches, 4)), Path(f"{own}:make")
        ),
        "calibrator": build(BuildOptions(precisions=int8, calibrator=Calibrator(batches, 4))),
        "static batch": build(
            BuildOptions(precisions=int8, calibrator=Calibrator(batches, 4)), **{"ITensor.shape": (8, 3, 8, 8)}
        ),
        "ranges": build(BuildOptions(precisions=int8, ranges=Ranges({"x": TensorRange(12.7)}))),
        "nothing for int8": build(BuildOptions(precisions=int8)),
        "best": build(BuildOptions(precisions=frozenset({"best"}))),
        "best with q/dq": build(BuildOptions(precisions=frozenset({"best"})), **quantize),
        "q/dq and ranges": build(BuildOptions(precisions=int8, ranges=Ranges({"x": TensorRange(12.7)})), **quantize),
        "bf16, tf32": build(BuildOptions(precisions=frozenset({"bf16", "tf32"}))),
        "layers obey": build(BuildOptions(layer_precisions=(("conv*", "fp32"),), precision_constraints="obey")),
        "layers prefer": build(BuildOptions(layer_precisions=(("conv*", "fp16"),), precision_constraints="prefer")),
        "no such layer": build(BuildOptions(layer_precisions=(("head*", "fp32"),))),
        "integer layer": build(
            BuildOptions(layer_precisions=(("conv*", "fp16"),)), **{"ITensor.dtype": tensorrt.DataType.INT32}
        ),
    }


def session_contract(**more: Any) -> Contract:
    names = iter(["x", "y"])
    modes = iter([tensorrt.TensorIOMode.INPUT, tensorrt.TensorIOMode.OUTPUT])
    return Contract(
        tensorrt,
        {
            "ICudaEngine.num_io_tensors": 2,
            "ICudaEngine.get_tensor_name": lambda: next(names),
            "ICudaEngine.get_tensor_mode": lambda: next(modes),
            "ICudaEngine.get_tensor_dtype": tensorrt.DataType.FLOAT,
            "ICudaEngine.get_tensor_shape": (-1, 2),
            "ICudaEngine.get_tensor_profile_shape": [(1, 2), (4, 2), (8, 2)],
            "IExecutionContext.get_tensor_shape": (4, 2),
            "IExecutionContext.active_optimization_profile": 0,
            "IPluginRegistry.load_library": object(),
            **more,
        },
    )


def run() -> dict[str, Any]:
    contract = session_contract()
    loaded = tensorrt_session.LoadedEngine(contract.module(), b"engine", HostDevice())
    feed = {"x": np.arange(8, dtype=np.float32).reshape(loaded.opt_shape("x"))}
    outputs = loaded.context().run(feed)
    options = tensorrt_bench.BenchOptions(warm_up_seconds=0, seconds=0, least_calls=4, streams=2, cuda_graph=True)
    timings = tensorrt_bench.bench(loaded, feed, options).to_json()
    tensorrt_profile.profile(loaded, feed, calls=2, warm_up=1)
    tensorrt_layers.layer_information(loaded)
    # A context that another profile is active in, as TensorRT 8 gives to a second context.
    other = session_contract(**{"IExecutionContext.active_optimization_profile": -1})
    tensorrt_session.LoadedEngine(other.module(), b"engine", HostDevice(), host_code=True).context().run(feed)
    last = session_contract(**{"IExecutionContext.get_tensor_shape": (-1, 2)})
    data_dependent = tensorrt_session.LoadedEngine(last.module(), b"engine", HostDevice(), plugins=[Path("p.so")])
    context = data_dependent.context(profile=0)
    context.load(feed)
    allocator = context._allocators["y"].trt_object  # what TensorRT calls, called here
    address = allocator.reallocate_output("y", None, 48, 256)
    allocator.notify_shape("y", (6, 2))
    context.fetch()
    other.used |= last.used
    return {"allocated": (address > 0, context._host["y"].shape), "last_calls": last.calls,
            "used": contract.used | other.used, "calls": contract.calls, "other_calls": other.calls,
            "outputs": {k: v.shape for k, v in outputs.items()}, "timings": timings}  # fmt: skip


def refits(scratch: Path) -> dict[str, Any]:
    model = scratch / "m.onnx"
    onnx.save(conv_net(), str(model))
    names = list(refit.constants_of(model))
    found: dict[str, Any] = {}
    for title, more in {
        "done": {},
        "fixed": {"ICudaEngine.refittable": False},
        "another": {"Refitter.get_all_weights": ["w"]},
        "incomplete": {"Refitter.get_missing_weights": [names[0]]},
        "refused": {"Refitter.refit_cuda_engine": False},
        "parser": {"OnnxParserRefitter.refit_from_file": False, "OnnxParserRefitter.num_errors": 1,
                   "ParserError.desc": "no such weight"},
    }.items():  # fmt: skip
        contract = session_contract(**{
            "ICudaEngine.refittable": True, "ICudaEngine.serialize": b"new engine",
            "Refitter.get_all_weights": [*names[:2], "made up"], "Refitter.get_missing_weights": [], **more,
        })  # fmt: skip
        loaded = tensorrt_session.LoadedEngine(contract.module(), b"engine", HostDevice())
        outcome: dict[str, Any] = {"used": contract.used, "calls": contract.calls, "error": None}
        try:
            done = refit.refit(loaded, model)
            outcome |= {"engine": done.engine.decode(), "refitted": done.refitted, "missing": done.missing,
                        "kept": len(done.kept), "names": names}  # fmt: skip
        except QuantbenchError as error:
            outcome["error"] = str(error)
        found[title] = outcome
    return found


def selections() -> dict[str, Any]:
    """What TensorRT's algorithm selector answers under the rules (8 and 10 alone have one)."""
    if MAJOR >= 11:
        return {}
    rules = tactic_choice.TacticRules(
        forbid=("0x1", "*_bad_*"), choose=(("conv*", "0x2"), ("gone", "0x9")), names={3: "a_bad_kernel"},
        replay={"old": frozenset({4})},
    )  # fmt: skip
    contract = Contract(tensorrt, {})
    made = tactic_choice.selector(contract.module(), rules)
    choices = [SimpleNamespace(algorithm_variant=SimpleNamespace(tactic=t)) for t in (1, 2, 3, 4)]
    answers = {
        name: made.select_algorithms(SimpleNamespace(name=name), choices) for name in ("conv0", "gone", "old", "else")
    }
    made.report_algorithms([], [])
    return {"answers": answers, "notes": rules.notes, "of_bindings": isinstance(made, tensorrt.IAlgorithmSelector)}


def stand_in_differs() -> list[str]:
    """Members of scripts/torch_engine.py that the bindings lack, or that take other arguments there."""
    found = []
    for name in ("Runtime", "ICudaEngine", "IExecutionContext"):
        mine, theirs = getattr(torch_engine, name), getattr(tensorrt, name)
        plain = {"profiler", "active_optimization_profile"} if name == "IExecutionContext" else set()
        for member in {m for m in vars(mine) if not m.startswith("_")} | plain:
            real = getattr(theirs, member, None)
            own = getattr(mine, member, None)
            if real is None or callable(own) == isinstance(real, property):
                found.append(f"{name}.{member}")
            elif callable(own):
                given = set(inspect.signature(own).parameters)
                takes = [parameters for parameters, _ in signatures(real.__doc__, member)]
                if not any(_fits(given, parameters) for parameters in takes):
                    found.append(f"{name}.{member}{given} instead of {takes}")
    return found


def _fits(given: set[str], parameters: list[str]) -> bool:
    known = {p.split(":")[0] for p in parameters}
    return {p.split(":")[0] for p in parameters if "=" not in p} <= given <= known


def named_in_source() -> dict[str, list[str]]:
    """Members that the source names: `trt.A.B` chains, and any attribute that some class of the bindings has."""
    adapter = tensorrt11 if MAJOR >= 11 else tensorrt10
    modules = [adapter, tensorrt_common, tensorrt_session, tensorrt_profile, tensorrt_layers, tactic_choice, refit]
    if MAJOR < 11:
        modules.append(tensorrt_calibrator)
    chains: set[str] = set()
    attributes: set[str] = set()
    for module in modules:
        tree = ast.parse(Path(str(module.__file__)).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                text = ast.unparse(node)
                if text.startswith("trt.") and text.replace(".", "").replace("_", "").isalnum():
                    chains.add(text)
                attributes.add(node.attr)
    missing = [chain for chain in sorted(chains) if not _exists(chain)]
    classes = [c for c in vars(tensorrt).values() if isinstance(c, type) and not hasattr(c, "__members__")]
    of_bindings = {a for c in classes for a in vars(c) if not a.startswith("_")}
    return {"missing": missing, "chains": sorted(chains), "attributes": sorted(attributes & of_bindings)}


def absent_from_enums() -> list[str]:
    """Members that the tables of facts name and this version lacks."""
    wanted = [("BuilderFlag", flag) for flag in FLAGS.values()]
    if MAJOR < 11:
        wanted += [("BuilderFlag", flag) for flags in PRECISION_FLAGS.values() for flag in flags]
        wanted += [("BuilderFlag", flag) for flag in CONSTRAINT_FLAGS.values()]
        wanted += [("DataType", kind) for kind in DATA_TYPES.values()]
    return [f"{enum}.{name}" for enum, name in wanted if name not in getattr(tensorrt, enum).__members__]


def _exists(chain: str) -> bool:
    here: Any = tensorrt
    for part in chain.split(".")[1:]:
        if not hasattr(here, part):
            return False
        here = getattr(here, part)
    return True


if __name__ == "__main__":
    data = {
        "version": tensorrt.__version__,
        "builds": builds(Path(sys.argv[1])),
        "run": run(),
        "refits": refits(Path(sys.argv[1])),
        "selections": selections(),
        "stand_in_differs": stand_in_differs(),
        "absent": absent_from_enums(),
        **named_in_source(),
    }
    print(json.dumps(data, default=sorted))
