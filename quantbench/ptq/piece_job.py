"""A piece of the calibration data, counted in a process of its own, here or on another machine."""

import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantbench.calibration.store import write_histograms
from quantbench.cores import use_decoders
from quantbench.engines.shapes import Shape
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model, model_sha256
from quantbench.provenance import chosen_versions
from quantbench.ptq.calibrate_on import place_of
from quantbench.ptq.data_sources import calibration_data
from quantbench.ptq.pieces import Piece, PieceCounter, Sampled
from quantbench.ptq.request import DataChoice


@dataclass(frozen=True, slots=True)
class CountJob:
    """What a process needs to open model and data for itself, and their hashes, by which it knows that they are those
    of the run. `shapes`: those that the engine will see, by input; `decoders`: threads that decode; `device`: cpu,
    cuda or cuda:N; `versions` of the packages that can change a number."""

    model: Path
    model_sha256: str
    tensors: tuple[str, ...]
    input_name: str
    data: DataChoice
    data_sha256: str
    shapes: tuple[tuple[str, tuple[Shape, ...]], ...]
    batch: int
    threads: int
    decoders: int
    device: str
    versions: tuple[tuple[str, str], ...]


def absolute(data: DataChoice) -> DataChoice:
    """`data` with paths that hold in any folder."""
    inputs = tuple(replace(choice, path=choice.path.absolute()) for choice in data.inputs)
    return replace(data, calib_dir=data.calib_dir and data.calib_dir.absolute(), inputs=inputs)


def shapes_of(shapes: Mapping[str, Sequence[Shape]]) -> tuple[tuple[str, tuple[Shape, ...]], ...]:
    """`shapes` as a job holds them."""
    return tuple((name, tuple(each)) for name, each in shapes.items())


# Of the job that this process counts: a worker of Ray's gets one piece at a time.
_counters: dict[str, PieceCounter] = {}


def _counter_of(job: CountJob) -> PieceCounter:
    text = repr(job)
    if text not in _counters:
        _counters.clear()
        _counters[text] = _opened(job)
    return _counters[text]


def require_versions(wanted: Mapping[str, str]) -> None:
    """Raise QuantbenchError where a package is of another version here than `wanted` says: its numbers may differ."""
    found = chosen_versions(*(name for name in wanted if name != "quantbench"))
    for name, version in wanted.items():
        if found.get(name) != version:
            raise QuantbenchError(
                f"on {platform.node()} {name} is {found.get(name, 'not installed')}, where the run is it is {version}; "
                f"install one version everywhere, since numbers differ between them"
            )


def _opened(job: CountJob) -> PieceCounter:
    """Model and data of `job`. Raises QuantbenchError, with the machine's name, where they are not there or are
    others."""
    use_decoders(job.decoders)
    require_versions(dict(job.versions))
    try:
        model = load_model(job.model)
        source = calibration_data(model, str(job.model), job.data, dict(job.shapes)).source
    except QuantbenchError as error:
        raise QuantbenchError(f"on {platform.node()}: {error}") from error
    if model_sha256(job.model) != job.model_sha256:
        raise QuantbenchError(f"on {platform.node()} {job.model} is another model; give a path that all machines share")
    if source.sha256() != job.data_sha256:
        raise QuantbenchError(
            f"on {platform.node()} the calibration data are others (hash); every process must see the same, in one "
            f"order"
        )
    data = Sampled(source, job.input_name, job.batch, job.data.max_bad)
    return PieceCounter(model, job.tensors, data, place_of(job.device).begin, job.threads)


def count_piece(job: CountJob, piece: Piece, key: str) -> bytes:
    """Histograms of `piece` as a file's bytes, marked with `key`."""
    found = _counter_of(job).count(piece)
    assert found is not None
    stream = io.BytesIO()
    write_histograms(stream, found[0], images=found[1], key=key)
    return stream.getvalue()
