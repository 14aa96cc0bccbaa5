"""The compile stage, in which `ptq` and `qat-export` end: what it gets, and what becomes of a refusal."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantbench.calibration.ranges import Ranges
from quantbench.compilation.compile_check import InputShapes, Subject, compile_check, read_compiled
from quantbench.compilation.request import CompileRequest, missing
from quantbench.engines.build import Chosen
from quantbench.engines.facts import FACTS
from quantbench.engines.gpus import find_driver
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress
from quantbench.provenance import chosen_versions
from quantbench.records.compiled import Compiled, Refused
from quantbench.run_folder import RunFolder
from quantbench.stage import UNKEYED, FileRef, Stage

STAGE = "compile"


@dataclass(frozen=True, slots=True)
class Compiling:
    """The INT8 model's file and the `plain` one (with its hash; None: no comparison) for one compiler, names of their
    quantized and of all weighted nodes, the inputs with their shapes (-1 for the batch), and `ranges` only where the
    compiler takes them in place of Q/DQ."""

    quantized: FileRef
    plain_sha256: str
    quantized_nodes: tuple[str, ...]
    weighted_nodes: tuple[str, ...]
    inputs: InputShapes
    ranges: Ranges | None
    request: CompileRequest
    after: str
    plain: onnx.ModelProto | None = field(metadata=UNKEYED)


@dataclass(frozen=True, slots=True)
class _Inputs:
    compiling: Compiling
    gpu: str
    chosen: Chosen = field(metadata=UNKEYED)
    progress: Progress = field(metadata=UNKEYED)


def compile_in(
    folder: RunFolder, compiling: Compiling, chosen: Chosen | None, progress: Progress
) -> Compiled | Refused | None:
    """Build the INT8 engine and the float one in `folder`, unless that is done; None where there is no compiler to ask.

    Where nobody named a backend, a model that it refuses costs the check and not the run: the result then says why,
    and the folder holds no engine. Raises QuantbenchError where a named one refuses.
    """
    request = compiling.request
    if chosen is None:
        if why := missing(request):
            progress.note(why)
        # An engine that is there was built from this very model, or it would have gone with it.
        return read_compiled(folder.path) if STAGE in folder.records() else None
    gpu = "" if FACTS[chosen.family].builds_without_gpu else ", ".join(g.name for g in find_driver().gpus)
    versions = chosen_versions("onnx", "onnx-graphsurgeon") | {chosen.family: chosen.version}
    inputs = _Inputs(compiling, gpu, chosen, progress)
    try:
        folder.run(Stage(STAGE, inputs, versions, _compile, after=(compiling.after,)))
    except QuantbenchError as error:
        folder.forget(STAGE)
        if request.backend != "auto":
            raise
        progress.note(f"warning: no compiler check: {error}")
        return Refused(failed=str(error))
    return read_compiled(folder.path)


def _compile(inputs: _Inputs, out: Path) -> None:
    given = inputs.compiling
    subject = Subject(
        onnx.load(str(given.quantized.path)), given.plain, given.quantized_nodes, given.weighted_nodes,
        given.inputs, given.ranges,
    )  # fmt: skip
    compile_check(subject, out, given.request, inputs.chosen, inputs.progress)
