"""The builds of the compiler stage, begun together so that they run beside other work of the same run."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        self._pool = ThreadPoolExecutor(1, "quantbench-builds")  # what comes before a build takes time, too
        self._builds: dict[str, tuple[Side, Future[_Build]]] = {}
        self._ends: dict[str, BuildResult | Exception] = {}

    def __enter__(self) -> "Begun":
        return self

    def __exit__(self, *error: object) -> None:
        while self._builds:
            self._end(next(iter(self._builds)))
        self._pool.shutdown()

    def _end(self, what: str) -> None:
        _, starting = self._builds.pop(what)
        if not starting.cancel() and starting.exception() is None:
            starting.result().stack.close()

    def add(self, side: Side) -> None:
        """Begin to build `side`, unless that runs; `result` tells of what goes wrong."""
        known = self._builds.get(side.what)
        if known is not None and known[0].model is side.model and known[0].options == side.options:
            return
        if known is not None:
            self._end(side.what)
        self._builds[side.what] = side, self._pool.submit(self._start, side)

    def _start(self, side: Side) -> _Build:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quantbench-")))
            source = written(side, folder, self._backend)
            building = stack.enter_context(started(side, source, self._backend))
            return _Build(side, source, building, stack.pop_all())

    def settle(self, title: str, progress: Progress) -> None:
        """Wait until none runs any more, whatever becomes of them: from then on the machine is quiet."""
        if self._ends:
            return
        with progress.task(f"{title}, in the background", len(self._builds), "builds") as advance:
            for what, (_, starting) in self._builds.items():
                try:
                    build = starting.result()
                    self._ends[what] = ended(build.side, build.source, build.building)
                except Exception as error:  # `result` raises it, to whoever asks for that build
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
