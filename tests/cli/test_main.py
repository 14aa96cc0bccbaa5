"""The command as a whole: help, wrong commands, lightness, walls between packages."""

import ast
import subprocess
import sys
from pathlib import Path

import quantbench

PACKAGE = Path(quantbench.__file__).parent


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


WALLS = {
    # package: what it must not import
    "inspection": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "report": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "calibration": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "qdq": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "graph": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "cache": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "predict": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "evaluate": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "images": ("quantbench.engines", "quantbench.cli", "torch", "tensorrt"),
    "ptq": ("quantbench.cli", "torch", "tensorrt"),
    "qat": ("quantbench.cli", "tensorrt"),
}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_walls_between_packages() -> None:
    broken = []
    for package, forbidden in WALLS.items():
        for file in (PACKAGE / package).rglob("*.py"):
            for name in imports_of(file):
                top = name.split(".")[0]
                if any(name == bad or name.startswith(f"{bad}.") or top == bad for bad in forbidden):
                    broken.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not broken


def test_only_tensorrt_engines_import_tensorrt() -> None:
    users = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if {name.split(".")[0] for name in imports_of(file)} & {"tensorrt", "tensorrt_rtx"}
    }
    assert all(user.startswith("engines/tensorrt") for user in users), users
    assert "engines/tensorrt_rtx.py" in users
