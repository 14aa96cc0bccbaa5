"""Record what a program feeds its onnxruntime sessions, as calibration data for each of its networks.

Inner networks (a decoder behind an encoder, a recogniser behind a detector) see data that no folder holds. The user's
own program makes it: while it runs, `onnxruntime.InferenceSession` is replaced in this process by a subclass that keeps
a bounded, seeded sample of the calls of each model (reservoir sampling: Vitter, "Random sampling with a reservoir",
algorithm R) and else does nothing.
"""

import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.data.array_calls import save_call
from quantbench.errors import QuantbenchError
from quantbench.load_object import user_code


@dataclass
class Recorded:
    """One model of the program: `calls` of it in all, of which `kept` are in `folder` as `.npz` files."""

    model: str
    folder: Path
    calls: int = 0
    kept: int = 0
    random: Random = field(default_factory=lambda: Random(0))

    def keep(self, feed: Mapping[str, NDArray[Any]], most: int) -> None:
        """Keep `feed` with the chance that makes the sample fair."""
        place = self.calls if self.calls < most else self.random.randrange(self.calls + 1)
        self.calls += 1
        if place >= most:
            return
        arrays = {name: np.asarray(value) for name, value in feed.items()}
        if any(array.dtype.kind not in "fiub" for array in arrays.values()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        save_call(self.folder / f"{place:06d}.npz", arrays)
        self.kept = max(self.kept, place + 1)


def record(program: Path, arguments: Sequence[str], out: Path, *, most: int = 512, seed: int = 0) -> list[Recorded]:
    """Run the Python `program` with `arguments` as `python program …` would, and record its sessions under `out`.

    One folder a model file, named after it. Raises QuantbenchError where `out` holds anything, there is no program, or
    it fed no session, or fails itself; what it fed until then is kept.
    """
    if not program.is_file():
        raise QuantbenchError(f"program {program} does not exist")
    if out.exists() and any(out.iterdir()):
        raise QuantbenchError(f"{out} is not empty; choose another --out")
    found: dict[str, Recorded] = {}
    with _watched(found, out, most, seed), _as_main(program, arguments), user_code(str(program)):
        try:
            runpy.run_path(str(program), run_name="__main__")
        except SystemExit as stop:
            if stop.code not in (None, 0):
                raise QuantbenchError(f"{program} ended with {stop.code}") from stop
    if not any(entry.calls for entry in found.values()):
        raise QuantbenchError(
            f"{program} fed no onnxruntime session: it ran none in this process, or only with bindings"
        )
    return [entry for entry in found.values() if entry.calls]


@contextmanager
def _watched(found: dict[str, Recorded], out: Path, most: int, seed: int) -> Iterator[None]:
    import onnxruntime

    plain = onnxruntime.InferenceSession

    def begin(session: Any, path_or_bytes: Any, *more: Any, **options: Any) -> None:
        plain.__init__(session, path_or_bytes, *more, **options)
        given = isinstance(path_or_bytes, str | os.PathLike)
        name = Path(path_or_bytes).stem if given else f"model-{len(found) + 1}"
        key = str(Path(path_or_bytes).resolve()) if given else f"{name} (given as bytes)"
        if key not in found:
            taken = {entry.folder.name for entry in found.values()}
            folder = name if name not in taken else f"{name}-{len(found) + 1}"
            found[key] = Recorded(key, out / folder)
            found[key].random.seed(f"{seed} {folder}")
        session.recorded = found[key]

    def run(session: Any, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        session.recorded.keep(dict(input_feed), most)
        return plain.run(session, output_names, input_feed, run_options)

    onnxruntime.InferenceSession = type("InferenceSession", (plain,), {"__init__": begin, "run": run})
    try:
        yield
    finally:
        onnxruntime.InferenceSession = plain


@contextmanager
def _as_main(program: Path, arguments: Sequence[str]) -> Iterator[None]:
    argv, path = sys.argv, list(sys.path)
    sys.argv = [str(program), *arguments]
    sys.path.insert(0, str(program.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
