"""onnxruntime sessions, and its errors as ours."""

import contextlib
import ctypes
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from quantbench.errors import QuantbenchError
from quantbench.graph.own_zero_points import own_zero_points
from quantbench.graph.save import saved_briefly
from quantbench.graph.surgery import bytes_of, copied, set_outputs

if TYPE_CHECKING:
    import onnxruntime

_SHARED_ZERO_POINT = "Attempt to replace the existing tensor"
_WRITTEN = "session.optimized_model_external_initializers"
# Weights beyond this many bytes go through a file, which onnxruntime maps into memory. Of a model that is handed over
# as bytes there are four more copies at once: ours to hand over, its parsed one, its own weights and the packed ones.
# A session of a ResNet-18 takes 0.11 s of processor time instead of 0.27.
_THROUGH_A_FILE = 4_000_000
# What is freed of weights beyond this many bytes is returned to the system at once.
_LARGE = 100_000_000
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Where:
    """Where a session computes: an execution provider of onnxruntime and its options. What that one has no kernel for
    is computed on the CPU."""

    provider: str = _CPU
    options: Mapping[str, str] = field(default_factory=dict)


ON_CPU = Where()


def create_session(
    model: onnx.ModelProto | Path, *, threads: int = 0, optimize: bool = True, fuse_qdq: bool = True,
    outputs: Sequence[str] = (), where: Where = ON_CPU, optimized: Path | None = None,
) -> "onnxruntime.InferenceSession":  # fmt: skip
    """Session of `model` on the CPU, or `where` it is to be; `threads` 0 lets onnxruntime choose. Without `fuse_qdq` Q
    and DQ are computed as they stand, between float kernels. `outputs`: tensors that it returns, in place of the
    model's own outputs. `optimized`: where to write the graph that it runs, with its weights in a file beside it; the
    session itself is then not made for running.

    Raises QuantbenchError, in one line, where onnxruntime is absent or refuses the model, ProviderNotLoaded where it
    would compute on the CPU in place of `where`.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise QuantbenchError("onnxruntime is not installed: pip install onnxruntime") from error

    options = session_options()
    options.intra_op_num_threads = threads
    # The plan that onnxruntime makes of a first run is one block for all tensors, which the next run takes beside what
    # the first one holds: twice the memory, for 1 % of the time. Engines whose time is measured keep it.
    options.enable_mem_pattern = False
    if not fuse_qdq:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if where.provider != _CPU:
        options.use_deterministic_compute = True
    if optimized:
        options.optimized_model_filepath = str(optimized)
        options.add_session_config_entry(f"{_WRITTEN}_file_name", optimized.with_suffix(".weights").name)
        options.add_session_config_entry(f"{_WRITTEN}_min_size_in_bytes", "1024")
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return _on(where, _session(model, options, outputs, where))
    except refusals() as error:
        if _SHARED_ZERO_POINT not in str(error):
            raise QuantbenchError(f"onnxruntime refuses the model: {_line(error)}") from error
    # A fault of onnxruntime's own, so mended here and not in the models.
    whole = onnx.load(str(model)) if isinstance(model, Path) else model
    try:
        return _on(where, _session(own_zero_points(whole), options, outputs, where))
    except refusals() as error:
        raise QuantbenchError(f"onnxruntime refuses the model: {_line(error)}") from error


class ProviderNotLoaded(QuantbenchError):
    """A session computes on the CPU because onnxruntime could not load the provider that it was to use."""


def _on(where: Where, session: "onnxruntime.InferenceSession") -> "onnxruntime.InferenceSession":
    """`session` itself. Where a provider cannot be loaded onnxruntime takes the CPU, with a warning at most."""
    if session.get_providers()[0] != where.provider:
        raise ProviderNotLoaded(
            f"onnxruntime cannot load {where.provider} and would compute on the CPU in silence; see "
            f"onnxruntime.ai/docs/execution-providers"
        )
    return session


def _session(
    model: onnx.ModelProto | Path, options: "onnxruntime.SessionOptions", outputs: Sequence[str], where: Where
) -> "onnxruntime.InferenceSession":
    import onnxruntime as ort

    if isinstance(model, Path) and outputs:
        model = onnx.load(str(model))
    if isinstance(model, onnx.ModelProto) and bytes_of(model) > _THROUGH_A_FILE:
        with tempfile.TemporaryDirectory(prefix="quantbench-") as folder:
            path = saved_briefly(model, Path(folder), outputs)
            if bytes_of(model) > _LARGE:
                give_back()
            return _session(path, options, (), where)
    if isinstance(model, onnx.ModelProto) and outputs:
        model = copied(model)
        set_outputs(model, outputs)
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    del model  # a copy with other outputs has served its turn
    if where.provider == _CPU:
        return ort.InferenceSession(source, options, providers=[_CPU])
    # Without its own fallback, which prints to stdout.
    return ort.InferenceSession(source, options, providers=[(where.provider, dict(where.options)), _CPU],
                                enable_fallback=0)  # fmt: skip


def give_back() -> None:
    """Return to the system what was freed: glibc keeps the memory of weights under 32 MB, and of a large model that is
    as much as it takes. Elsewhere nothing is done."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def session_options() -> "onnxruntime.SessionOptions":
    """Quiet options under which INT8 sums do not saturate, whatever the processor.

    Without VNNI onnxruntime multiplies U8 by S8 with VPMADDUBSW, whose 16-bit sums saturate: 11 dB in place of over 30
    on a ResNet-18. `session.x64quantprecision` makes it take U8 by U8 there; elsewhere it changes nothing. Source:
    onnxruntime, onnxruntime_session_options_config_keys.h.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised; they need not be printed too
    options.add_session_config_entry("session.x64quantprecision", "1")
    # Weights apart from the arena, which grows by doubling and is given back in whole regions only.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


def run(session: "onnxruntime.InferenceSession", names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
    """Outputs `names` (None: all) of `session` on `feed`. Raises QuantbenchError, in one line, where onnxruntime
    refuses the feed or fails."""
    try:
        found: list[Any] = session.run(names, dict(feed))
    except refusals() as error:
        raise QuantbenchError(f"onnxruntime fails on a batch: {_line(error)}") from error
    return found


def run_bound(session: "onnxruntime.InferenceSession", binding: Any) -> None:
    """Run `session` on what `binding` binds. Raises QuantbenchError, in one line, where onnxruntime fails."""
    try:
        session.run_with_iobinding(binding)
    except refusals() as error:
        raise QuantbenchError(f"onnxruntime fails on a batch: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a model or an input that it does not take; onnxruntime must be installed."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoSuchFile,
        state.NotImplemented, state.RuntimeException, state.EPFail, state.NoModel, state.ModelLoaded,
        state.InvalidProtobuf, RuntimeError, ValueError,
    )  # fmt: skip
