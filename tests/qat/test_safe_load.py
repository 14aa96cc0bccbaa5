"""A checkpoint from anyone: it loads, or it is refused in one line, and it never runs code."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quantbench.errors import QuantbenchError
from quantbench.qat.safe_load import load_checkpoint, wanted_globals


class Evil:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_yolo_checkpoint_loads_with_its_real_classes(yolo_checkpoint: Path) -> None:
    loaded = load_checkpoint(yolo_checkpoint)
    model = loaded["model"].float().eval()
    assert type(model).__name__ == "DetectionModel"
    assert all(type(type(m)) is type for m in model.modules())
    assert model(torch.zeros(1, 3, 64, 64))[0].shape == (1, 84, 84)


def test_state_dict_loads(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "r.pth")
    assert set(load_checkpoint(tmp_path / "r.pth")) == {"weight", "bias"}


def test_malicious_pickle_does_not_run(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({"model": Evil(os.system, f"touch {flag}")}, path)
    with pytest.raises(QuantbenchError, match=r"refused: it wants posix\.system.*--trust") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not flag.exists()
    load_checkpoint(path, trust=True)
    assert flag.exists(), "the test's pickle is harmless, so it proves nothing"


@pytest.mark.parametrize("function", [eval, exec, __import__])
def test_builtins_are_refused_by_name(tmp_path: Path, function: Any) -> None:
    torch.save({"model": Evil(function, "1")}, tmp_path / "evil.pt")
    with pytest.raises(QuantbenchError, match=function.__name__):
        load_checkpoint(tmp_path / "evil.pt")


def test_constructor_of_an_allowed_class_is_not_called(tmp_path: Path) -> None:
    """ultralytics' model constructor evaluates strings of its configuration: allowed as state, refused as a call."""
    from ultralytics.nn.tasks import DetectionModel

    flag = tmp_path / "ran"
    config = {"nc": 1, "activation": f"open({str(flag)!r}, 'w')", "backbone": [], "head": [], "scales": {}}
    torch.save({"model": Evil(DetectionModel, config)}, tmp_path / "evil.pt")
    assert "ultralytics.nn.tasks.DetectionModel" in wanted_globals(tmp_path / "evil.pt")
    with pytest.raises(QuantbenchError, match="refused"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not flag.exists()


def test_function_beside_allowed_classes_is_refused(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import yaml_model_load

    torch.save({"model": Evil(yaml_model_load, 1)}, tmp_path / "evil.pt")
    with pytest.raises(QuantbenchError, match="yaml_model_load"):
        load_checkpoint(tmp_path / "evil.pt")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_broken_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(QuantbenchError, match=r"broken\.pt"):
        load_checkpoint(tmp_path / "broken.pt")


def test_cut_checkpoint_is_one_line(tmp_path: Path, yolo_checkpoint: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(yolo_checkpoint.read_bytes()[:100_000])
    with pytest.raises(QuantbenchError, match=r"cut\.pt"):
        load_checkpoint(tmp_path / "cut.pt")


def test_getattr_reaches_forward_methods_of_modules_only(tmp_path: Path) -> None:
    torch.save({"model": Evil(getattr, "text", "format")}, tmp_path / "evil.pt")
    with pytest.raises(QuantbenchError, match=r"refused.*'format'"):
        load_checkpoint(tmp_path / "evil.pt")
    torch.save({"model": Evil(getattr, nn.Linear(1, 1), "__init__")}, tmp_path / "evil.pt")
    with pytest.raises(QuantbenchError, match="refused"):
        load_checkpoint(tmp_path / "evil.pt")


def test_a_pickle_cut_within_a_length_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X\x01")  # BINUNICODE, whose length has four bytes
        archive.writestr("archive/version", b"3\n")
    with pytest.raises(QuantbenchError, match=r"w\.pt cannot be read"):
        load_checkpoint(tmp_path / "w.pt")
