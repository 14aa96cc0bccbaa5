"""The compile stage, in which `ptq` and `qat-export` end: what it gets, and what becomes of a refusal."""

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from quantbench.calibration.ranges import Ranges
from quantbench.compilation.builds import Begun, leave_memory, may_run_beside
from quantbench.compilation.compile_check import (
    InputShapes,
    Order,
    Subject,
    compile_check,
    float_side,
    order_of,
    read_compiled,
)
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
class Running:
    """Builds of the stage that were begun, and what they are of."""

    subject: Subject
    order: Order
    begun: Begun

    def settle(self, progress: Progress) -> None:
        """Wait until none of them runs."""
        self.begun.settle(self.order.title, progress)


@dataclass(frozen=True, slots=True)
class _Inputs:
    compiling: Compiling
    gpu: str
    chosen: Chosen = field(metadata=UNKEYED)
    progress: Progress = field(metadata=UNKEYED)
    running: Running | None = field(metadata=UNKEYED)


def begin_float(
    begun: Begun, folder: RunFolder, plain: onnx.ModelProto, inputs: InputShapes, request: CompileRequest,
    chosen: Chosen | None,
) -> None:  # fmt: skip
    """Begin to build the `plain` model, which waits for no other stage, where the stage was never done in `folder`."""
    if chosen is None or request.implicit or not may_run_beside(chosen, request.options) or STAGE in folder.records():
        return
    side = float_side(plain, inputs, request, chosen)
    if leave_memory((side, side)):  # the INT8 model is about as large
        begun.add(side)


def begin(begun: Begun, folder: RunFolder, compiling: Compiling, chosen: Chosen | None) -> Running | None:
    """Begin the stage's builds, which run beside other stages until `compile_in` takes them.

    None where the stage is done or no compiler is asked, and where the builds must have their turn: `compile_in` then
    does all.
    """
    if chosen is None or not may_run_beside(chosen, compiling.request.options):
        return None
    if folder.done(_stage(_Inputs(compiling, _gpu(chosen), chosen, Progress("none"), None))):
        return None
    subject = _subject(compiling)
    order = order_of(subject, compiling.request, chosen)
    if not leave_memory(order.sides):
        return None
    for side in order.sides:
        begun.add(side)
    return Running(subject, order, begun)


def compile_in(
    folder: RunFolder, compiling: Compiling, chosen: Chosen | None, progress: Progress, running: Running | None = None
) -> Compiled | Refused | None:
    """Build the INT8 engine and the float one in `folder`, or take those that are `running`, unless that is done; None
    where there is no compiler to ask.

    Where nobody named a backend, a model that it refuses costs the check and not the run: the result then says why,
    and the folder holds no engine. Raises QuantbenchError where a named one refuses.
    """
    request = compiling.request
    if chosen is None:
        if why := missing(request):
            progress.note(why)
        # An engine that is there was built from this very model, or it would have gone with it.
        return read_compiled(folder.path) if STAGE in folder.records() else None
    stage = _stage(_Inputs(compiling, _gpu(chosen), chosen, progress, running))
    if running is not None:
        running.settle(progress)
    try:
        folder.run(stage, before=running.begun.spent() if running is not None else 0.0)
    except QuantbenchError as error:
        folder.forget(STAGE)
        if request.backend != "auto":
            raise
        progress.note(f"warning: no compiler check: {error}")
        return Refused(failed=str(error))
    return read_compiled(folder.path)


def _gpu(chosen: Chosen) -> str:
    return "" if FACTS[chosen.family].builds_without_gpu else ", ".join(g.name for g in find_driver().gpus)


def _stage(inputs: _Inputs) -> Stage[_Inputs]:
    versions = chosen_versions("onnx", "onnx-graphsurgeon") | {inputs.chosen.family: inputs.chosen.version}
    return Stage(STAGE, inputs, versions, _compile, after=(inputs.compiling.after,))


def _subject(given: Compiling) -> Subject:
    return Subject(
        onnx.load(str(given.quantized.path)), given.plain, given.quantized_nodes, given.weighted_nodes,
        given.inputs, given.ranges,
    )  # fmt: skip


def _compile(inputs: _Inputs, out: Path) -> None:
    request, running = inputs.compiling.request, inputs.running
    if running is not None:
        compile_check(running.subject, out, request, running.order, inputs.progress, running.begun)
        return
    subject = _subject(inputs.compiling)
    compile_check(subject, out, request, order_of(subject, request, inputs.chosen), inputs.progress)
