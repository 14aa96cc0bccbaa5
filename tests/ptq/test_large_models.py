"""A model too large for one protobuf message, end to end: the bound is lowered, so that a small one is too large.

`scripts/check_big_model.py` does the same with 2.1 GB (figures: docs/data.md).
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.ptq.small_run import holds, run, write_data, write_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """m.onnx, whose weights lie in files of their own, and data; small.onnx is the same in one file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = tmp_path / "home"
    home.mkdir()
    write_model(home / "small.onnx")
    model = onnx.load(home / "small.onnx")
    onnx.save(model, home / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    assert (home / "w1").exists()
    write_data(home / "data")
    return home


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}


def test_a_run_of_a_model_over_the_bound_is_that_of_any_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = run(home, home / "whole", model=home / "small.onnx")
    for bound in ("graph.save.ONE_MESSAGE", "ort._THROUGH_A_FILE"):
        monkeypatch.setattr(f"quantbench.{bound}", 1000)
    large = run(home, home / "run")
    names = {output.path for output in large.stages["quantize"].outputs}
    assert {"model.qdq.onnx", "model.qdq.onnx.data", "model.ort.onnx", "model.ort.onnx.data"} == names
    # A model's messages hold the graph alone.
    assert (home / "run" / "model.qdq.onnx").stat().st_size < (home / "whole" / "model.qdq.onnx").stat().st_size
    for name in ("model.qdq.onnx", "model.ort.onnx"):
        one, other = weights(home / "whole" / name), weights(home / "run" / name)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert large.evaluation.outputs == small.evaluation.outputs
    assert [layer.sqnr_db for layer in large.evaluation.layers] == [layer.sqnr_db for layer in small.evaluation.layers]

    # What was damaged is made anew, a moved folder is gone on with, and its weights go with it.
    data = home / "run" / "model.qdq.onnx.data"
    content = data.read_bytes()
    data.write_bytes(content[:-8] + b"damaged!")
    run(home, home / "run")
    assert data.read_bytes() == content
    before = holds(home / "run")
    shutil.move(home / "run", home / "there")
    after = run(home, home / "there")
    assert {n: s.provenance for n, s in after.stages.items()} == {n: s.provenance for n, s in before.stages.items()}

    # Another weight in a file beside the model is another model.
    changed = np.fromfile(home / "w1", np.float32) * 2
    changed.tofile(home / "w1")
    assert run(home, home / "there2").model.sha256 != large.model.sha256
