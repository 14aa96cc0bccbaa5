"""Export a torch model, quantized or float, to ONNX with clean Q/DQ, through either of torch's exporters."""

import contextlib
import copy
import functools
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from quantbench.errors import QuantbenchError
from quantbench.qat.clean import clean
from quantbench.qat.fold import fold_batch_norms
from quantbench.qat.plugins import PluginCalls, functions_called

EXPORTERS = ("dynamo", "legacy")
OLDEST_OPSET = 17


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export. `opset` None takes 17 for the legacy exporter and 18, its lowest, for dynamo."""

    exporter: str = "dynamo"
    opset: int | None = None
    dynamic_batch: bool = False
    int8_weights: bool = False
    input_name: str = "input"
    output_names: Sequence[str] = ()


def export_onnx(
    model: nn.Module, example: Tensor, folds: Iterable[tuple[str, str]], options: ExportOptions
) -> onnx.ModelProto:
    """ONNX of `model` in evaluation mode on inputs like `example` (float32). The model itself is left unchanged.

    `folds` are the (conv, batch norm) pairs of the trace. Raises QuantbenchError where the exporter refuses the
    model or a dynamic batch, or for an opset below 17.
    """
    if options.exporter not in EXPORTERS:
        raise QuantbenchError(f"unknown exporter {options.exporter!r}; there are {', '.join(EXPORTERS)}")
    dynamo = options.exporter == "dynamo"
    opset = options.opset or (18 if dynamo else OLDEST_OPSET)
    if opset < OLDEST_OPSET:
        raise QuantbenchError(f"opset {opset} is too old; the QAT export needs {OLDEST_OPSET} or newer")
    ready = copy.deepcopy(model).cpu().float().eval()
    fold_batch_norms(ready, folds)
    for parameter in ready.parameters():
        parameter.requires_grad_(False)
    calls = PluginCalls()
    with tempfile.TemporaryDirectory() as folder, _quiet(), functions_called(calls):
        path = Path(folder) / "model.onnx"
        try:
            _export(ready, example.cpu().float(), path, dynamo, opset, options)
            exported = onnx.load(str(path))
        except (RuntimeError, TypeError, ValueError, AssertionError, torch.onnx.OnnxExporterError) as error:
            if unknown := _UNKNOWN.search(str(error)):
                name = (unknown[1] or unknown[2]).replace(".", "::")
                raise QuantbenchError(
                    f"the {options.exporter} exporter has no ONNX form of operator {name}; name one in the file of "
                    f"architecture.factory, torch.onnx.register_custom_op_symbolic({name!r}, function, {OLDEST_OPSET}),"
                    f" and take --exporter legacy"
                ) from error
            raise QuantbenchError(
                f"the {options.exporter} exporter of torch {torch.__version__} cannot export the model: "
                f"{_reason(error)}; try --exporter {'legacy' if dynamo else 'dynamo'}"
            ) from error
    if dynamo and calls.names and not _reads_input(exported):
        raise QuantbenchError(
            f"the dynamo exporter writes what {', '.join(dict.fromkeys(calls.names))}.forward computes, and that hangs "
            f"on no input; take --exporter legacy, which writes the node that its symbolic names"
        )
    if options.dynamic_batch and not exported.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise QuantbenchError(
            f"the {options.exporter} exporter fixed the batch size, as the model asks; export without --dynamic, or "
            f"try --exporter {'legacy' if dynamo else 'dynamo'}"
        )
    return clean(exported, int8_weights=options.int8_weights)


def _reads_input(model: onnx.ModelProto) -> bool:
    """Whether an output of `model` depends on its input."""
    reached = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
    return any(value.name in reached for value in model.graph.output)


def _export(model: nn.Module, example: Tensor, path: Path, dynamo: bool, opset: int, options: ExportOptions) -> None:
    inputs, outputs = [options.input_name], list(options.output_names) or None
    if dynamo:
        _register_shapes()
        # Batch 1 would be taken for a constant of the network.
        if options.dynamic_batch and len(example) == 1:
            example = example.repeat(2, *[1] * (example.dim() - 1))
        shapes = ({0: torch.export.Dim("batch")},) if options.dynamic_batch else None
        torch.onnx.export(
            model, (example,), path, dynamo=True, opset_version=opset, dynamic_shapes=shapes, external_data=False,
            verbose=False, input_names=inputs, output_names=outputs,
        )  # fmt: skip
        return
    axes = {name: {0: "batch"} for name in (*inputs, *options.output_names)} if options.dynamic_batch else None
    torch.onnx.export(
        model, (example,), path, dynamo=False, opset_version=opset, dynamic_axes=axes, input_names=inputs,
        output_names=outputs,
    )  # fmt: skip


@functools.cache
def _register_shapes() -> None:
    """Tell torch.export the output shapes of the fake quantizers: torch has no shape function for them, and without
    one a dynamic batch cannot be traced."""
    make: Any = torch.library.Library  # untyped in torch
    library = make("aten", "IMPL")
    _LIBRARIES.append(library)
    for channel in ("tensor", "channel"):
        name = f"fake_quantize_per_{channel}_affine_cachemask"
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, _same_shape, "Meta")


_LIBRARIES: list[Any] = []
# How the exporters name an operator of someone's own that they do not know.
_UNKNOWN = re.compile(r"No ONNX function found for <OpOverload\(op='((?!aten|prim)[\w.]+)'|namespace (\w+::\w+)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def _same_shape(x: Tensor, *arguments: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress, deprecation notes and dumps of graphs off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    aside = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(aside), contextlib.redirect_stderr(aside), _below():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _below() -> Iterator[None]:
    """Send what torch's C++ prints to nowhere: dumps of graphs, and a warning for each node of someone's own."""
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    try:
        with open(os.devnull, "wb") as nowhere:
            for stream, _ in kept:
                os.dup2(nowhere.fileno(), stream)
        yield
    finally:
        for stream, copy_of in kept:
            os.dup2(copy_of, stream)
            os.close(copy_of)


def _reason(error: BaseException) -> str:
    """Why the export failed, on one line: what torch.export says of the model, not the exporter's own help text."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = _ESCAPES.sub("", str(error)).strip() or type(error).__name__
    first = said.splitlines()[0][:200]
    if "data-dependent" not in said:
        return first
    return f"its forward asks for the value of a tensor, as an `if` on one does ({first}); write it with torch.where"
