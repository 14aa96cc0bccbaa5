"""Sweeps: the grid, resuming, a fault of one trial, a budget; the same numbers on a Ray cluster that loses a worker."""

import json
import os
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from quantbench.cli.sweep_trials import parse_grid, trials_of
from quantbench.decide.sweep import run_sweep
from quantbench.demo import resnet18
from quantbench.errors import QuantbenchError
from quantbench.progress import Progress


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    onnx.save(resnet18.build(width=8, size=32, classes=10), folder / "m.onnx")
    (folder / "imgs").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"imgs/{number}.png")
    path = folder / "small.yaml"
    path.write_text(
        f"model: {folder / 'm.onnx'}\ndata:\n  calib_dir: {folder / 'imgs'}\n"
        "  preprocess: {exact: 32, scale: 0.0171, mean: 2.1}\n"
        "evaluation: {latency: false}\ncompile: {backend: none}\nthreads: 1\n"
    )
    return path


def sqnr(run: Path) -> float:
    value: float = json.loads((run / "run.json").read_text())["evaluation"]["outputs"]["sqnr_db"]["value"]
    return value


def test_grid(recipe: Path) -> None:
    grid = parse_grid(["calibrator=minmax,mse", "placement.tiny_channels=4,8"])
    trials = trials_of([recipe], grid)
    assert [t.name for t in trials] == [
        f"small_calibrator-{m}_tiny_channels-{n}" for m in ("minmax", "mse") for n in (4, 8)
    ]
    assert trials[-1].recipe["placement"]["tiny_channels"] == 8
    for text, words in (("calibrator", "is not key=value"), ("a=", "is not key=value")):
        with pytest.raises(QuantbenchError, match=words):
            parse_grid([text])
    with pytest.raises(QuantbenchError, match="twice"):
        parse_grid(["a=1", "a=2"])
    with pytest.raises(QuantbenchError, match=r"unknown key .*calibrato"):
        trials_of([recipe], {"calibration.calibrato": ["minmax"]})


def test_a_sweep_resumes_and_one_fault_costs_one_trial(cli, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = ("sweep", recipe, "--grid", "calibrator=minmax,none-such", "--out", out, "--jobs", 2)
    code, printed, error = cli(*base)
    assert code == 3
    assert "1 done, 0 not run, 1 failed" in printed
    assert "none-such" in error
    good = out / "small_calibrator-minmax"
    assert "<title>m in INT8</title>" in (out / "report.html").read_text()
    made = (good / "run.json").stat().st_mtime_ns
    code, printed, _ = cli("sweep", recipe, "--grid", "calibrator=minmax", "--out", out)
    assert (code, printed.splitlines()[0]) == (0, "1 done, 0 not run, 0 failed")
    assert (good / "run.json").stat().st_mtime_ns == made
    code, printed, _ = cli("sweep", recipe, "--grid", "calibrator=mse", "--out", out, "--minutes", 0)
    assert (code, "1 not run" in printed) == (3, True)
    # A trial whose files were damaged since is not done.
    whole = (good / "calibration.cache").read_bytes()
    (good / "calibration.cache").write_bytes(b"")
    code, printed, _ = cli("sweep", recipe, "--grid", "calibrator=minmax", "--out", out, "--minutes", 0)
    assert (code, "1 not run" in printed) == (3, True)
    code, printed, _ = cli("sweep", recipe, "--grid", "calibrator=minmax", "--out", out)
    assert (code, printed.splitlines()[0]) == (0, "1 done, 0 not run, 0 failed")
    assert (good / "calibration.cache").read_bytes() == whole


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra: pip install 'quantbench[ray]'")
@pytest.mark.skipif("QUANTBENCH_RAY" not in os.environ, reason="minutes of CPU: QUANTBENCH_RAY=1 asks for it")
def test_a_cluster_that_loses_a_worker_gives_the_numbers_of_processes(recipe: Path, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    grid = parse_grid(["calibrator=minmax,mse,entropy", "placement.tiny_channels=4,8", "calibration.batch_size=2,3"])
    trials = trials_of([recipe], grid)
    assert len(trials) == 12
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)

    def lose() -> None:
        while not list((tmp_path / "ray").glob("*/run.json")):
            time.sleep(0.2)
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=lose)
    killer.start()
    try:
        state = run_sweep(trials, tmp_path / "ray", Progress("none"), ray=cluster.address)
    finally:
        killer.join()
        import ray

        ray.shutdown()
        cluster.shutdown()
    assert set(state.values()) == {""}
    here = run_sweep(trials, tmp_path / "here", Progress("none"), jobs=1)
    assert set(here.values()) == {""}
    assert [sqnr(tmp_path / "ray" / t.name) for t in trials] == [sqnr(tmp_path / "here" / t.name) for t in trials]
