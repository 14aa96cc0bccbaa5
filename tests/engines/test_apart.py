"""NVIDIA's compiler in a process of its own: crashes, kills and exits of it are one line, and it never outlives us."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantbench.compilation import builds
from quantbench.engines import build
from quantbench.engines.base import BuildOptions
from quantbench.engines.build import start_engine
from quantbench.engines.compiler import until_still
from quantbench.engines.crashed import how_ended
from quantbench.errors import QuantbenchError
from tests.bindings import REPOSITORY, run_with_bindings
from tests.engines.models import conv_net

RTX = ("--backend", "tensorrt-rtx")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
NETWORK = """
import os, sys, time
{body}
def fill(network, trt):
    x = network.add_input('x', trt.float32, (1, 3, 8, 8))
    network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
def waits(network):
    open({pid!r} + '.new', 'w').write(str(os.getpid()))
    os.rename({pid!r} + '.new', {pid!r})
    time.sleep(60)
"""


def write_crashing(path: Path) -> Path:
    """A network that onnxruntime runs (it drops a Slice of everything) and over which TensorRT-RTX 1.7 segfaults: the
    Slice's `starts` is a scalar."""
    weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    constants = {"m": weights, "starts": np.int64(0), "ends": np.array([2**63 - 1]), "axes": np.array([1])}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "m"], ["a"], "mix"),
         helper.make_node("Slice", ["a", "starts", "ends", "axes"], ["s"], "cut"),
         helper.make_node("Relu", ["s"], ["y"], "relu")],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def network(folder: Path, body: str = "") -> Path:
    file = folder / "net.py"
    file.write_text(NETWORK.format(body=body, pid=str(folder / "pid")))
    return file


def born(folder: Path) -> int:
    return int(until(lambda: (folder / "pid").exists() and (folder / "pid").read_text()))


def gone(process: int) -> bool:
    try:
        # A child of nobody's that waits to be reaped is over.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(holds: Callable[[], Any]) -> Any:
    for _ in range(1500):
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("never")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file through of which is known that the library dies of it; of others that is not known."""
    monkeypatch.setattr(build, "refuse_broken_file", lambda path: None)
    monkeypatch.setattr(builds, "refuse_broken", lambda model, name: None)


@pytest.mark.usefixtures("unchecked")
def test_a_crash_of_the_library_is_one_line(cli, tmp_path: Path) -> None:
    model = write_crashing(tmp_path / "m.onnx")
    code, out, err = cli("build", model, *RTX)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "crashed (SIGSEGV)" in err
    for part in (f"on {model}, at node cut (Slice); its log up to there is in", "--backend onnxruntime builds without"):
        assert part in err
    assert "cut [Slice] inputs:" in (tmp_path / "m.build.log").read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.build.log", "m.onnx"]
    code, _, err = cli("build", model, "--backend", "onnxruntime")
    assert code == 0, err


@pytest.mark.usefixtures("unchecked")
def test_a_run_survives_the_crash(cli, tmp_path: Path) -> None:
    model, data, run = write_crashing(tmp_path / "m.onnx"), tmp_path / "data", tmp_path / "run"
    data.mkdir()
    np.save(data / "x.npy", np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32))
    words = ("ptq", model, "--calib-data", data, "--out", run, "--threads", "1")
    code, _, err = cli(*words, *RTX)
    assert (code, err.count("quantbench: error")) == (2, 1), err
    last = err.splitlines()[-1]
    assert "crashed (SIGSEGV) on the INT8 model, at node cut (Slice)" in last
    assert "--no-compile" in last
    assert not list(run.rglob("*.part"))
    assert not (run / "model.engine").exists()
    code, _, err = cli(*words)
    assert code == 0, err
    assert "warning: no compiler check: TensorRT-RTX" in err
    assert "crashed" in json.loads((run / "run.json").read_text())["compiled"]["failed"]


def test_other_ends_of_the_process_are_told(cli, tmp_path: Path) -> None:
    file = network(
        tmp_path,
        "def killed(network): os.kill(os.getpid(), 9)\n"
        "def leaves(network): print('no license', file=sys.stderr, flush=True); os._exit(3)\n",
    )
    for name, said in (
        ("killed", "was killed (SIGKILL, most often because memory ran out)"),
        ("leaves", f"ended its process (exit code 3) on {file}:leaves"),
        ("leaves", "(no license); "),
    ):
        code, out, err = cli("build", f"{file}:{name}", *RTX)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert said in err
        assert not (tmp_path / f"net.{name}.engine").exists()
    assert [how_ended(code) for code in (0xC0000005, -6, -99)] == [
        "crashed (0xC0000005)", "crashed (SIGABRT)", "crashed (signal 99)"
    ]  # fmt: skip


def test_what_a_network_prints_leaves_json_alone(cli, tmp_path: Path) -> None:
    file = network(tmp_path, "print('hello')")
    code, out, err = cli("build", f"{file}:fill", *RTX, "--json")
    assert code == 0, err
    assert json.loads(out)["backend"] == "tensorrt-rtx"
    assert err == "hello\n"


def test_a_refusal_names_no_log_that_is_gone(tmp_path: Path) -> None:
    """Sizes of a Split in floats: TensorRT-RTX parses that, and cannot build it."""
    graph = helper.make_graph(
        [helper.make_node("Split", ["x", "sizes"], ["y", "z"], "cut", axis=1)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [numpy_helper.from_array(np.array([2, 2], np.float32), "sizes")],
    )  # fmt: skip
    model = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(model))
    for log in (None, tmp_path / "b.log"):
        with pytest.raises(QuantbenchError, match="cannot build") as error:
            build.build_engine(model, BuildOptions(log_file=log), "tensorrt-rtx", checked=True)
        assert str(error.value).partition("; the whole log is in ")[2] == ("" if log is None else str(log))


def test_a_process_at_work_is_none_that_stands_still() -> None:
    ended = threading.Event()

    def wait() -> None:
        until_still(0.05, 3)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    busy = time.monotonic() + 0.5
    while time.monotonic() < busy:
        sum(range(1000))
    assert not ended.is_set()
    assert ended.wait(20)


def test_what_is_no_refusal_comes_back_with_its_traceback(tmp_path: Path) -> None:
    file = network(tmp_path, "class Odd(BaseException): pass\ndef odd(network): raise Odd('eins')")
    with (
        start_engine(Path(f"{file}:odd"), BuildOptions(), "tensorrt-rtx") as building,
        pytest.raises(RuntimeError) as e,
    ):
        building.result()
    assert "Odd: eins" in str(e.value)
    assert "in odd" in str(e.value.__cause__)


def test_a_build_runs_beside_and_ends_with_its_handle(tmp_path: Path) -> None:
    onnx.save(conv_net(), str(tmp_path / "m.onnx"))
    file = network(tmp_path)
    with (
        start_engine(tmp_path / "m.onnx", BuildOptions(), "tensorrt-rtx") as one,
        start_engine(Path(f"{file}:waits"), BuildOptions(log_file=tmp_path / "b.log"), "tensorrt-rtx"),
    ):
        process = born(tmp_path)
        assert one.result().engine[:4] == b"vtrt"
        assert one.result().log.startswith("&&&& RUNNING")
        assert not gone(process)
    assert gone(process)


def test_a_terminated_command_takes_the_compiler_with_it(tmp_path: Path) -> None:
    """SIGTERM comes to both, as a terminal's Ctrl-C does: the command tells it, and not a death of the other's."""
    file = network(tmp_path)
    command = [sys.executable, "-m", "quantbench", "build", f"{file}:waits", *RTX]
    started = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env=ENVIRONMENT)  # fmt: skip
    process = born(tmp_path)
    os.killpg(started.pid, signal.SIGTERM)
    said = started.communicate()[1]
    assert started.returncode == 143, said
    assert said.startswith("quantbench: terminated")
    assert gone(process)


def test_processes_import_what_they_need_and_none_is_left_by_a_kill(tmp_path: Path) -> None:
    file = network(tmp_path)
    script = """
import sys
import quantbench.engines.compiler, quantbench.engines.tensorrt_rtx
print([name for name in ("numpy", "onnx", "pydantic", "torch", "filelock", "onnxruntime") if name in sys.modules])
from pathlib import Path
from quantbench.compilation import builds
from quantbench.engines import build
from quantbench.engines.base import BuildOptions
from quantbench.engines.build import start_engine
from quantbench.engines.compiler import until_still
from quantbench.engines.crashed import how_ended
building = start_engine(Path(sys.argv[1]), BuildOptions(), "tensorrt-rtx")
print("tensorrt_rtx" in sys.modules, flush=True)
building.result()
"""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started = subprocess.Popen([sys.executable, "-c", script, f"{file}:waits"], text=True, stdout=subprocess.PIPE,
                               env={**ENVIRONMENT, "TMPDIR": str(scratch)})  # fmt: skip
    process = born(tmp_path)
    started.kill()
    assert list(scratch.iterdir())
    assert started.communicate()[0].split() == ["[]", "False"]
    until(lambda: gone(process))
    assert not list(scratch.iterdir())


def test_tensorrt_builds_apart_too(tmp_path: Path) -> None:
    """With the real bindings over stubs of the library, which have no builder to give: that is told here, from there.
    The command's own process holds a calibrator of the user's, and builds with that itself."""
    onnx.save(conv_net(), str(tmp_path / "m.onnx"))
    script = """
import json, os, sys
from pathlib import Path
from quantbench.calibrator import Calibrator
from quantbench.engines import build
from quantbench.engines.base import BuildOptions
build.gpu_present = lambda: True
said = []
try:
    build.build_engine(Path(sys.argv[1]), BuildOptions(), "tensorrt")
except Exception as error:
    said = [str(error), "in build_here" in str(error.__cause__)]
families = ("tensorrt10", "tensorrt11", "tensorrt-rtx", "onnxruntime")
print(json.dumps([*said, *(build.builds_apart(f, BuildOptions(calibrator=c)) for f in families for c in (None, said))]))
"""
    said, there, *apart = run_with_bindings(10, script, str(tmp_path / "m.onnx"))
    assert "factory function returned nullptr" in said
    assert there
    assert apart == [True, False, True, False, True, False, False, False]
