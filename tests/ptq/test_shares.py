"""What a run says of its ranges: the shares that they clip and round to zero, and a lead where an outlier rules; what
it says where it is for a CPU."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.qdq.options import PlacementOptions
from quantbench.records.evaluation import Measured, Outputs
from quantbench.records.run import PtqRun, load_run
from quantbench.report import markdown
from quantbench.report.decision import command_of, decide
from quantbench.report.figures import ORT, Latency, is_for_cpu
from quantbench.report.leads import fine
from quantbench.report.sections import accuracy
from quantbench.report.verdict import judge
from quantbench.report.write import write_reports
from tests.ptq.small_run import run, write_data, write_model

if not any(command.name == "bench" for command in app.registered_commands):
    register_commands()


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


def test_what_is_measured_on_the_calibration_data_is_told(
    folders: tuple[Path, PtqRun, Path, PtqRun], tmp_path: Path
) -> None:
    """The words that were looked for were those of an earlier version."""
    folder, record, *_ = folders
    lead = "Measured on the calibration images"
    same = run(folder, tmp_path / "same", eval_dir=folder / "data")
    other = run(folder, tmp_path / "other", eval_dir=write_data(tmp_path / "data", seed=7))
    for made, told in ((record, True), (same, True), (other, False)):
        assert (lead in [each.title for each in decide(folder / "run", made).leads]) is told
        assert ("also set the ranges" in markdown.render("", "", [accuracy.section(made)])) is told


def test_a_run_for_a_cpu_says_what_to_type_for_a_cpu(tmp_path: Path) -> None:
    """It named quantbench predict and best placement, which speak of TensorRT."""
    write_model(tmp_path / "m.onnx")
    write_data(tmp_path / "data")
    record = run(tmp_path, tmp_path / "run", placement=PlacementOptions(for_onnxruntime=True))
    found = decide(tmp_path / "run", record)
    words = shlex.split(command_of(tmp_path / "run", record).bench)
    assert f"latency on this CPU is not known ({shlex.join(words)})" in found.verdict.sentence
    done = CliRunner().invoke(
        app, [*words[1:], "--seconds", "0.01", "--calls", "1", "--warm-up", "0"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert "batch 1: " in done.output
    told = [found.verdict.next_step, *(lead.next_step for lead in found.leads)]
    assert not any("predict" in step or "--placement best" in step for step in told)
    assert all("--for-onnxruntime" in step for step in told if step.startswith("quantbench ptq"))
    assert not any("predicted" in text for text in found.fine)
    write_reports(tmp_path / "run", record, found)
    assert "for which these kernels do not count" in (tmp_path / "run" / "report.html").read_text()
    assert "this is what TensorRT would make of it" in (tmp_path / "run" / "report.md").read_text()
    slow = [Latency(ORT, "FP32", 1, 1, 1, "measured"), Latency(ORT, "INT8", 2, 2, 2, "measured")]
    verdict = judge(Outputs(agreement=Measured(1.0, 1.0, 1.0, 9)), slow, ORT, command_of(tmp_path / "run", record))
    assert verdict.next_step.startswith(shlex.join(words))
    words = ["tune", str(tmp_path / "m.onnx"), "--data", str(tmp_path / "data"), "--for-onnxruntime", "--min-sqnr", "1"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "tuned")], catch_exceptions=False)
    assert done.exit_code == 0
    assert re.search("the same by hand: quantbench ptq .* --for-onnxruntime", done.output)
    tuned = load_run(tmp_path / "tuned")
    assert is_for_cpu(tuned)
