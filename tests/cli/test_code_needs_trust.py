"""A recipe is data: code that it names is not even imported, unless the command line names it or says --trust."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from quantbench.recipe import Recipe, load_recipe, named_code

# Leaves a mark as soon as it is imported, whatever is asked of it then.
CODE = """
from pathlib import Path
Path({mark!r}).touch()
import numpy as np
from quantbench.calibrator import Calibrator

class Mine(Calibrator):
    method = "minmax"

def items():
    yield np.zeros((1, 3, 8, 8), np.float32)

def source():
    raise SystemExit(9)
"""
MAKER = {"command": "touch {mark}"}
# Every place of a recipe that may name code: its key, what stands there.
PLACES: dict[str, Any] = {
    "architecture": {"factory": "os:system", "arguments": MAKER, "input_shape": [3, 8, 8]},
    "calibration.calibrator": "{code}:Mine",
    "data.calib_dir": "{code}:items",
    "data.dataset": "{code}?x=1",
    "evaluation.dir": "{code}:items",
    "evaluation.dataset": "{code}",
    "compile.plugin": ["{code}"],
}
FLAGS = {"calibration.calibrator": "--calibrator", "data.calib_dir": "--calib-dir", "evaluation.dir": "--eval-dir"}
ROADS = [
    *[("ptq", key) for key in PLACES],
    *[("qat-export", key) for key in ("architecture", "calibration.calibrator", "data.dataset", "compile.plugin")],
    ("build", "compile.plugin"),
    *[(command, key) for command in ("tune", "sensitivity", "sweep") for key in PLACES if key != "compile.plugin"],
]


class Road:
    """A folder with a model, data, code that leaves `mark`, and a recipe that names the code at one place."""

    def __init__(self, folder: Path, key: str) -> None:
        from tests.ptq.small_run import write_data, write_model

        self.mark, self.code, self.recipe = folder / "mark", folder / "code.py", folder / "r.yaml"
        self.folder, self.key = folder, key
        self.code.write_text(CODE.format(mark=str(self.mark)), encoding="utf-8")
        write_model(folder / "m.onnx")
        write_data(folder / "data")
        torch.save({"w": torch.zeros(1)}, folder / "w.pt")
        recipe: dict[str, Any] = {
            "model": str(folder / ("w.pt" if key == "architecture" else "m.onnx")),
            "data": {"calib_dir": str(folder / "data")}, "evaluation": {"latency": False}, "threads": 1,
            "compile": {"backend": "none"},
        }  # fmt: skip
        if key == "data.dataset":
            del recipe["data"]["calib_dir"]
        *sections, last = key.split(".")
        place = recipe
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = self.filled(PLACES[key])
        self.recipe.write_text(yaml.safe_dump(recipe), encoding="utf-8")

    def filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.filled(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.filled(entry) for entry in value]
        return value.format(code=self.code, mark=self.mark) if isinstance(value, str) else value

    def command(self, command: str) -> list[str]:
        out = ["--out", str(self.folder / "out")]
        if command == "sweep":
            return [command, str(self.recipe), *out]
        if command == "build":
            return [command, str(self.folder / "m.onnx"), "--recipe", str(self.recipe)]
        goal = ["--min-sqnr", "1"] if command == "tune" else []
        return [command, "--recipe", str(self.recipe), *out, *goal]


@pytest.mark.parametrize(("command", "key"), ROADS)
def test_code_of_a_recipe_is_refused_and_the_way_out_works(cli, tmp_path: Path, command: str, key: str) -> None:
    road = Road(tmp_path, key)
    code, _, error = cli(*road.command(command))
    assert code == 2
    (line,) = error.splitlines()
    assert key in line
    assert str(road.recipe) in line
    assert "--trust" in line
    assert not road.mark.exists()
    assert not (tmp_path / "out").exists()
    if command in ("ptq", "qat-export", "build"):
        code, _, error = cli(*road.command(command), "--trust")
        assert "names code" not in error
        if command == "ptq" and key not in ("compile.plugin", "evaluation.dataset"):
            assert road.mark.exists()


@pytest.mark.parametrize("key", FLAGS)
def test_code_that_the_command_line_names_runs(cli, tmp_path: Path, key: str) -> None:
    road = Road(tmp_path, key)
    code, _, error = cli(*road.command("ptq"), FLAGS[key], road.filled(PLACES[key]))
    assert (code, error) == (0, error)
    assert road.mark.exists()


def test_a_grid_names_code_and_its_trial_runs_that_and_nothing_of_the_working_folder(
    cli, monkeypatch, tmp_path: Path
) -> None:
    road = Road(tmp_path, "calibration.calibrator")
    # `python -m` would take its yaml from here.
    (tmp_path / "yaml.py").write_text("raise ImportError\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, printed, _ = cli(*road.command("sweep"), "--grid", f"calibrator={road.code}:Mine")
    assert (code, printed.splitlines()[0]) == (0, "1 done, 0 not run, 0 failed")
    assert road.mark.exists()
    code, _, error = cli(*road.command("sweep"), "--grid", "calibrator=minmax", "--grid", f"data.dataset={road.code}")
    assert code == 2
    assert "--grid data.dataset names code" in error


def test_every_field_that_could_name_code_is_a_place() -> None:
    """A new text or path of the schema must be looked at here: does it name code?"""
    data = {  # what is not code, by what it is
        "name", "description", "out", "weights", "data.preprocess", "evaluation.labels", "evaluation.classes",
        "placement.method", "placement.tensorrt", "placement.gpu", "placement.device", "compile.backend",
        "compile.quantization", "compile.target", "compile.precision", "compile.timing_cache",
        "compile.tactic_sources", "compile.hardware_compatible", "compile.precision_constraints",
        "compile.build_route", "compile.replay", "compile.log", "training.data", "training.amp", "export.exporter",
        "calibration.weight_scales", "calibration.rounding", "calibration.effort", "calibration.equalize",
        "calibration.smooth", "calibration.device",
    }  # fmt: skip
    found = set()
    for name, field in Recipe.model_fields.items():
        section = getattr(field.annotation, "model_fields", None)
        for key, entry in ({f"{name}.{k}": v for k, v in section.items()} if section else {name: field}).items():
            if "str" in str(entry.annotation) or "Path" in str(entry.annotation) or "Literal" in str(entry.annotation):
                found.add(key)
    lists = {
        key for key in found if "tuple" in str(_annotation(key)) or "dict[str, quantbench" in str(_annotation(key))
    }
    assert found - lists - data == {*PLACES, "model"} - {"architecture", "compile.plugin"}
    assert lists - {"compile.plugin"} == {
        "data.inputs", "placement.keep_float", "placement.plugin_precision", "compile.shapes", "compile.pool",
        "compile.layer_precision", "compile.forbid_tactic", "compile.choose",
    }  # fmt: skip


def _annotation(key: str) -> Any:
    section, _, name = key.rpartition(".")
    model: Any = Recipe.model_fields[section].annotation if section else Recipe
    return model.model_fields[name].annotation


def test_shipped_recipes_name_no_code() -> None:
    from quantbench.shipped import shipped_names

    for path in shipped_names("recipes", ".yaml").values():
        assert named_code(load_recipe(path)) == {}


def test_a_percentile_is_no_code() -> None:
    assert named_code(Recipe().merged({"calibration.calibrator": "percentile:99.9"})) == {}


def test_ptq_unpickles_a_checkpoint_in_full_only_when_trusted(cli, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path / 'mark'}",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "net.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(1, 1)\n", encoding="utf-8")
    recipe = tmp_path / "r.yaml"
    architecture = {"factory": f"{tmp_path / 'net.py'}:make", "input_shape": [3, 8, 8]}
    recipe.write_text(yaml.safe_dump({"model": str(tmp_path / "evil.pt"), "architecture": architecture}))
    code, _, _ = cli("ptq", "--recipe", recipe, "--calib-dir", tmp_path, "--out", tmp_path / "out")
    assert (code, (tmp_path / "mark").exists()) == (2, False)
    cli("ptq", "--recipe", recipe, "--calib-dir", tmp_path, "--out", tmp_path / "out", "--trust")
    assert (tmp_path / "mark").exists()
