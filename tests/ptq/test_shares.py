"""What a run says of its ranges: the shares that they clip and round to zero, and a lead where an outlier rules."""

from pathlib import Path

import numpy as np
import pytest

from quantbench.records.run import PtqRun
from quantbench.report.decision import decide
from quantbench.report.leads import fine
from quantbench.report.write import write_reports
from tests.ptq.small_run import run, write_data, write_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PtqRun, Path, PtqRun]:
    """A run, and one whose data have an outlier, each in its folder."""
    found: list[Path | PtqRun] = []
    for outlier in (1.0, 1e4):
        folder = tmp_path_factory.mktemp("shares")
        write_model(folder / "m.onnx")
        write_data(folder / "data")
        array = np.load(folder / "data" / "0.npy")
        array[0, 0, 0, 0] *= outlier
        np.save(folder / "data" / "0.npy", array)
        found += [folder, run(folder, folder / "run")]
    return tuple(found)


def test_every_quantized_tensor_has_its_shares(folders: tuple[Path, PtqRun, Path, PtqRun]) -> None:
    folder, record, *_ = folders
    ranges = {facts.tensor: facts for facts in record.calibration.ranges}
    assert len(ranges) == record.placement.tensors
    values = np.abs(np.concatenate([np.load(path) for path in sorted((folder / "data").glob("*.npy"))]))
    of_input = ranges["x"]
    assert of_input.amax == of_input.observed_max == values.max()
    assert of_input.share_clipped == 0
    assert of_input.share_zero == pytest.approx(np.mean(values <= values.max() / 254), abs=0.002)
    write_reports(folder / "run", record, decide(folder / "run", record))
    text = (folder / "run" / "report.md").read_text()
    assert "Clipped, and rounded to zero" in text
    assert f"{100 * of_input.share_zero:.3f} %" in text
    assert f"{100 * of_input.share_zero:.3g} % zero)" in (folder / "run" / "report.html").read_text()


def test_an_outlier_that_rules_a_range_is_a_lead(folders: tuple[Path, PtqRun, Path, PtqRun]) -> None:
    *first, folder, record = folders
    worst = max(record.calibration.ranges, key=lambda facts: facts.share_lost or 0)
    assert worst.share_lost is not None
    assert worst.share_lost > 0.5
    titles = [lead.title for lead in decide(folder / "run", record).leads]
    assert any("most values to zero" in title for title in titles)
    assert "no range that calibration found is suspicious" not in fine(record)
    calm = decide(first[0] / "run", first[1])
    assert not any("to zero" in lead.title for lead in calm.leads)
