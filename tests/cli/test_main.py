"""The command as a whole: help, wrong commands, lightness."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import quantbench
from quantbench.cli.main import _commands as _app
from quantbench.cli.requests import image_size, ptq_request
from quantbench.errors import QuantbenchError
from quantbench.qdq.options import WeightOptions
from quantbench.recipe import Recipe


def test_help_imports_nothing_heavy() -> None:
    """`--help` stays under half a second because none of these is imported for it."""
    code = (
        "import sys; sys.argv = ['quantbench', '--help']\n"
        "from quantbench.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'pydantic', 'PIL', 'jinja2', 'tensorrt_rtx', 'yaml'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert "ptq" in done.stdout


def test_a_wrong_command_exits_with_2_and_no_traceback(cli) -> None:
    code, _, error = cli("pqt")
    assert code == 2
    assert "No such command" in error
    assert "Traceback" not in error


def test_version(cli) -> None:
    code, out, _ = cli("--version")
    assert (code, out.strip()) == (0, f"quantbench {quantbench.__version__}")


@pytest.mark.parametrize(("text", "size"), [("640", 640), ("384,640", (384, 640)), ("384x640", (384, 640))])
def test_sizes_of_images(text: str, size: object) -> None:
    assert image_size(text) == size
    for wrong in ("", "0", "1,2,3", "a", "64,"):
        with pytest.raises(QuantbenchError, match="HEIGHT,WIDTH"):
            image_size(wrong)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, WeightOptions()),
        ({"effort": "full"}, WeightOptions(adaptive=True, judged=True, bias_sweeps=4)),
        ({"effort": "full", "rounding": "nearest"}, WeightOptions(bias_sweeps=4)),
        ({"rounding": "adaptive", "weight_scales": "mse"}, WeightOptions("mse", adaptive=True)),
    ],
)
def test_effort_and_the_words_of_its_parts(given: dict[str, str], options: WeightOptions) -> None:
    recipe = Recipe().merged({f"calibration.{name}": word for name, word in given.items()})
    assert ptq_request(recipe).weights == options


@pytest.mark.parametrize("flag", ["--effort", "--rounding", "--weight-scales"])
def test_a_word_that_an_algorithm_lacks(cli, flag: str) -> None:
    code, _, error = cli("ptq", "m.onnx", flag, "most")
    assert code == 2
    assert f"calibration.{flag[2:].replace('-', '_')} = 'most'" in error


def test_the_help_of_ptq_has_panels_and_an_example(cli) -> None:
    shown = cli("ptq", "--help")[1]
    assert [panel for panel in ("Data", "Comparison", "Placement", "Engine build") if f"─ {panel} ─" not in shown] == []
    assert "Example: quantbench ptq model.onnx --calib-dir imgs" in shown


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


def test_every_command_has_help_that_is_read_easily(cli) -> None:
    """Flags were shown with <bool> behind them, as if they took a value, and lists broke off where a docstring does."""
    shown = dict(_commands(_app()))
    assert len(shown) > 30
    for path, command in shown.items():
        code, out, error = cli(*path, "--help")
        assert (code, error) == (0, ""), path
        assert "Usage: quantbench" in out
        assert not re.search(r"<(bool|str|path|int|float|list)", out), path
        assert "\n" not in (command.short_help or "")
        for option in command.params:
            if option.param_type_name == "option" and not option.is_flag:
                assert "TEXT" in out or "PATH" in out or "N " in out or option.metavar


def test_no_engine_that_nobody_asked_for_of_a_model_that_is_for_a_cpu() -> None:
    """TensorRT-RTX compiled it, and the summary said that INT8 does not pay there."""
    changes = {"placement.for_onnxruntime": True}
    assert ptq_request(Recipe().merged(changes)).compile.backend == "none"
    assert ptq_request(Recipe().merged({**changes, "compile.target": "sm86"})).compile.backend == "auto"
    assert ptq_request(Recipe()).compile.backend == "auto"
    with pytest.raises(QuantbenchError, match="give one"):
        ptq_request(Recipe().merged({**changes, "compile.quantization": "implicit"}))
