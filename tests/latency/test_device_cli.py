"""`quantbench device …` and `predict --device`, as typed."""

import json
from pathlib import Path

import pytest

from quantbench.errors import QuantbenchError
from quantbench.latency import device_file
from quantbench.latency.device import Estimate
from quantbench.latency.device_file import device_names, find_device
from quantbench.latency.layout import Format
from quantbench.latency.work import Conv, Work, conv_work
from quantbench.latency.yaml_file import load
from tests.latency.conftest import DATA


def test_devices_that_ship_say_what_they_rest_on(cli) -> None:
    code, out, _ = cli("device", "list", "--json")
    assert code == 0
    found = {d["name"]: d for d in json.loads(out)}
    assert set(found) >= {"a100", "rtx-3080-ti", "rtx-4090", "orin", "v100", "rtx-3090", "gtx-1070", "h100-pcie"}
    for name, device in found.items():
        evidence = device["evidence"]
        assert evidence["rows"] > 100, name
        assert evidence["error"], name
        assert all(f["source"] and f["licence"] for f in evidence["files"]), name
    assert all(path.stat().st_size < 300_000 for path in device_names().values())


def _conv(dtype: str, layout: str) -> Work:
    form = Format(dtype, layout)
    common = Work("conv", form, form, channels=128, read=1e6, written=1e6, elements=1e6)
    return conv_work(common, Conv(m=25088, n=128, k=1152, groups=1, window=3, stride=1, residual=False))


def test_learnt_device_reads_back_as_it_was(cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    logs = Path("tests/data/artefacts/logs")
    code, out, err = cli("device", "learn", logs / "cookbook84_trtexec_result-FP16.txt", "-o", path)
    assert (code, err) == (0, "")
    assert "GTX 1070, 16 SMs" in out
    device = find_device(str(path))
    assert device.evidence.rows == 268
    assert device.evidence.tensorrt == ("8.0.3",)
    first = device.estimate(_conv("FP32", "linear"))
    assert isinstance(first, Estimate)
    assert 0 < first.low < first.us < first.high


def test_a_device_is_read_again_only_where_its_file_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "mine.yaml", []
    path.write_text(device_names()["h100-pcie"].read_text())
    monkeypatch.setattr(device_file, "load", lambda file: read.append(file) or load(file))
    first = find_device(str(path))
    assert find_device(str(path)) is first
    assert len(read) == 1
    path.write_text(path.read_text().replace("name: h100-pcie", "name: another"))
    assert find_device(str(path)).name == "another"
    path.write_text("no device")
    with pytest.raises(QuantbenchError, match="holds no mapping"):
        find_device(str(path))


def test_a_device_of_an_older_form_is_told_to_be_learnt_again(cli, tmp_path: Path) -> None:
    text = device_names()["h100-pcie"].read_text().replace("quantbench-device/2", "quantbench-device/1")
    (tmp_path / "old.yaml").write_text(text)
    code, _, err = cli("device", "show", tmp_path / "old.yaml")
    assert code == 2
    assert "an older quantbench" in err
    assert "quantbench device learn" in err


def test_what_was_timed_is_looked_up() -> None:
    device = find_device("a100")
    for each in device.products:
        if each.points:
            point = each.points[0]
            assert device.estimate(point.work).us == pytest.approx(point.us)
            assert device.estimate(point.work).sure == "seen"


def test_precision_that_was_never_timed_is_called_borrowed() -> None:
    estimate = find_device("h100-pcie").estimate(_conv("INT8", "chw32"))
    assert estimate.sure == "borrowed"
    assert "never timed" in estimate.why


def test_scaling_is_called_a_guess_and_follows_the_specifications(cli, tmp_path: Path) -> None:
    path = tmp_path / "nano.yaml"
    code, out, _ = cli("device", "scale", "orin", "Orin Nano 8GB", "-o", path)
    assert code == 0
    assert "A guess: scaled from orin" in out
    nano, orin = find_device(str(path)), find_device("orin")
    work = _conv("FP16", "hwc8")
    assert nano.estimate(work).sure == "guess"
    # Half of the multiprocessors at half the clock.
    assert 2.5 < nano.estimate(work).us / orin.estimate(work).us < 5.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("learn", DATA / "README.md", "-o", "x.yaml"), "no timed kernel"),
        (("learn", DATA / "centerpoint_8503_verbose.log.xz", "-o", "x.json"), "is no .yaml file"),
        (("learn", DATA / "centerpoint_8503_verbose.log.xz", "-o", "x.yaml", "--gpu", "RTX 9999"), "device gpus"),
        (("show", "b200"), "quantbench device list"),
        (("scale", "a100", "GTX 1070", "-o", "x.yaml"), "has no"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(cli, words: tuple[object, ...], said: str) -> None:
    code, _, err = cli("device", *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
