"""The builds of the compiler stage, begun together so that they run beside other work of the same run."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantbench.engines.base import BuildOptions, BuildResult
from quantbench.engines.build import Building, Chosen, builds_apart, start_engine
from quantbench.engines.facts import FACTS, ONNXRUNTIME
from quantbench.engines.refuse_broken import refuse_broken
from quantbench.errors import QuantbenchError
from quantbench.graph.save import save_model
from quantbench.graph.surgery import bytes_of
from quantbench.progress import Progress

# Of both models: a build takes several times its weights.
_MOST_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Side:
    """A model to build; `what` it is, for messages."""

    what: str
    model: onnx.ModelProto
    options: BuildOptions


@dataclass(frozen=True, slots=True)
class _Build:
    side: Side
    source: Path
    building: Building
    stack: ExitStack


def may_run_beside(chosen: Chosen, options: BuildOptions) -> bool:
    """Whether builds with these options may run at once and beside other work: in processes and with logs of their own,
    without a GPU, on which engines are tried and timed."""
    alone = FACTS[chosen.family].builds_without_gpu and builds_apart(chosen.family, options)
    return alone and options.log_file is None and options.timing_cache is None


def leave_memory(sides: Sequence[Side]) -> bool:
    """Whether these models are so small that their builds may run while both networks lie in sessions besides."""
    return sum(bytes_of(side.model) for side in sides) <= _MOST_BYTES


class Begun:
    """Builds that run beside other work, each from when it is added; a context manager, whose end ends them."""

    def __init__(self, backend: str) -> None:
        """None runs yet."""
        self._backend = backend
        self._builds: dict[str, _Build] = {}
        self._ends: dict[str, BuildResult | Exception] = {}

    def __enter__(self) -> "Begun":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End them all, whatever they do."""
        while self._builds:
            self._builds.popitem()[1].stack.close()

    def add(self, side: Side) -> None:
        """Begin to build `side`, unless that runs. Raises QuantbenchError as `start_engine` does."""
        known = self._builds.get(side.what)
        if known is not None and known.side.model is side.model and known.side.options == side.options:
            return
        if known is not None:
            self._builds.pop(side.what).stack.close()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quantbench-")))
            source = written(side, folder, self._backend)
            building = stack.enter_context(started(side, source, self._backend))
            self._builds[side.what] = _Build(side, source, building, stack.pop_all())

    def settle(self, title: str, progress: Progress) -> None:
        """Wait until none runs any more, whatever becomes of them: from then on the machine is quiet."""
        if self._ends:
            return
        with progress.task(f"{title}, in the background", len(self._builds), "builds") as advance:
            for what, build in self._builds.items():
                try:
                    self._ends[what] = ended(build.side, build.source, build.building)
                except Exception as error:
                    self._ends[what] = error
                advance(1)

    def spent(self) -> float:
        """Seconds of the longest build, once they are settled."""
        return max((end.seconds for end in self._ends.values() if isinstance(end, BuildResult)), default=0.0)

    def result(self, side: Side) -> BuildResult:
        """What was built of `side`, once they are settled. Raises what that raised."""
        end = self._ends[side.what]
        if isinstance(end, Exception):
            raise end
        return end


def written(side: Side, folder: Path, backend: str) -> Path:
    """The model of `side` as a file in `folder`. Raises QuantbenchError for one that would crash NVIDIA's parser."""
    if backend != ONNXRUNTIME:
        refuse_broken(side.model, f"the {side.what} model")
    source = folder / "compile.onnx"
    save_model(side.model, source)
    return source


def started(side: Side, source: Path, backend: str) -> Building:
    """The build of `side`, whose file is `source`. Raises QuantbenchError, which speaks of `what` it is."""
    try:
        return start_engine(source, side.options, backend, checked=True)
    except QuantbenchError as error:
        raise _of(side, source, error) from error


def ended(side: Side, source: Path, building: Building) -> BuildResult:
    """What is built. Raises QuantbenchError as `started`."""
    try:
        return building.result()
    except QuantbenchError as error:
        raise _of(side, source, error) from error


def _of(side: Side, source: Path, error: QuantbenchError) -> QuantbenchError:
    return QuantbenchError(str(error).replace(str(source), f"the {side.what} model"))
