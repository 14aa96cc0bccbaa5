"""Whether a run folder, its model and its data are still what the run recorded: hashes computed anew."""

from dataclasses import dataclass
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model, model_sha256
from quantbench.images.source import file_sha256
from quantbench.ptq.data_sources import calibration_data, evaluation_data
from quantbench.ptq.prepare import model_classes
from quantbench.ptq.request import PtqRequest
from quantbench.ptq.resolve import display_name
from quantbench.records.run import PtqRun, QatRun
from quantbench.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at: `what`, and `change` since the run, "" for none. `unknown`: it could not be looked
    at, for the reason in `change`, which is no change."""

    what: str
    change: str = ""
    unknown: bool = False


def outputs(folder: Path, run: PtqRun | QatRun) -> list[Checked]:
    """Every file that a stage of the run wrote, by size and SHA-256; and whether run.json tells of the stages that the
    folder's own records tell of."""
    own = RunFolder(folder).records()
    known = {name: record.key for name, record in own.items()}
    said = {name: record.key for name, record in run.stages.items()}
    found = [Checked("run.json", "" if known == said else "tells of other stages than the folder's records")]
    for record in (own or run.stages).values():
        for output in record.outputs:
            path = folder / output.path
            found.append(Checked(output.path, _change(path, output.bytes, output.sha256)))
    return found


def _change(path: Path, size: int, sha256: str) -> str:
    try:
        if not path.is_file():
            return "is gone"
        if path.stat().st_size != size:
            return f"has {path.stat().st_size:,} bytes in place of {size:,}"
        return "" if file_sha256(path) == sha256 else "has other content"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def model(run: PtqRun | QatRun) -> Checked:
    """The float model, with the files of its external data."""
    what, path = f"model {run.model.path}", Path(run.model.path)
    if not path.is_file():
        return Checked(what, "is gone")
    return Checked(what, "" if model_sha256(path) == run.model.sha256 else "has other content")


def data(run: PtqRun, request: PtqRequest) -> list[Checked]:
    """Calibration and evaluation data, opened as `request` names them."""
    path = Path(run.model.path)
    what = f"calibration data {run.data.what}"
    try:
        proto = load_model(path)
        opened = calibration_data(proto, display_name(str(path)), request.data)
    except QuantbenchError as error:
        return [Checked(what, str(error))]
    found = [Checked(what, "" if opened.source.sha256() == run.data.sha256 else "are others")]
    what = f"evaluation data {run.evaluated_on.what}"
    try:
        classes = model_classes(proto, request.evaluation.classes)
        source, _ = evaluation_data(proto, request.evaluation, opened, classes)
        same = source.sha256() == run.evaluated_on.sha256
    except QuantbenchError as error:
        return [*found, Checked(what, str(error))]
    return [*found, Checked(what, "" if same else "are others")]
