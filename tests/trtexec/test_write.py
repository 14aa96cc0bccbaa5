"""The way back: quantbench's options as a trtexec command line, and the table of flags in the docs."""

from dataclasses import fields
from pathlib import Path

import pytest

from quantbench.cli.requests import build_options
from quantbench.engines.base import BuildOptions
from quantbench.engines.shapes import parse_profile
from quantbench.errors import QuantbenchError
from quantbench.recipe import Recipe
from quantbench.trtexec.read import commands, translate
from quantbench.trtexec.table import flags_table
from quantbench.trtexec.write import as_trtexec

ROOT = Path(__file__).parents[2]
EVERYTHING = BuildOptions(
    precisions=frozenset({"fp16", "int8"}), profiles=(parse_profile("x=1x3x8x8:4x3x8x8:8x3x8x8,m=1x4"),),
    pools={"workspace": 4 << 30, "dla_managed_sram": 1 << 20}, tactic_sources=("+JIT_CONVOLUTIONS",),
    optimization_level=4, refittable=True, version_compatible=True, exclude_lean_runtime=True,
    hardware_compatible="ampere_plus", sparsity=True, dla_core=1, gpu_fallback=True,
    layer_precisions=(("a*", "fp32"), ("b:0", "fp16")), precision_constraints="obey",
    avg_timing=4, aux_streams=0,
)  # fmt: skip


def _read_back(line: str) -> BuildOptions:
    """What `build` would be asked by our own translation of the line."""
    from typer.main import get_command

    from quantbench.cli.build_options import EngineOptions
    from quantbench.cli.main import app, register_commands

    if not any(command.name == "inspect" for command in app.registered_commands):
        register_commands()
    words = commands(translate(line))[0]
    command = getattr(get_command(app), "commands")["build"]  # noqa: B009 (a click group)
    with command.make_context("build", words[2:]) as context:
        given = EngineOptions(**{field.name: context.params[field.name] for field in fields(EngineOptions)})
    return build_options(Recipe().merged({"compile.batch": 8, **given.changes()}).compile)


def test_options_come_back_from_their_own_line() -> None:
    line, missing = as_trtexec(Path("m.onnx"), EVERYTHING, Path("e.engine"))
    assert missing == ()
    back = _read_back(line)
    for name in (
        "precisions", "profiles", "pools", "tactic_sources", "optimization_level", "refittable", "version_compatible",
        "exclude_lean_runtime", "hardware_compatible", "sparsity", "dla_core", "gpu_fallback", "layer_precisions",
        "precision_constraints", "avg_timing", "aux_streams",
    ):  # fmt: skip
        assert getattr(back, name) == getattr(EVERYTHING, name), name


def test_what_a_version_cannot_say_is_told() -> None:
    options = BuildOptions(precisions=frozenset({"fp16"}), targets=("sm86",), forbid_tactics=("0x1",))
    line, missing = as_trtexec(Path("m.onnx"), options, Path("m.engine"), Path("c.cache"), 11)
    assert "--fp16" not in line
    assert "--calib" not in line
    assert [word.partition(":")[0] for word in missing] == [
        "--precision fp16", "--ranges c.cache", "--target", "--forbid-tactic, --choose, --replay",
    ]  # fmt: skip
    assert "--buildOnly" in as_trtexec(Path("m.onnx"), BuildOptions(), Path("m.engine"), None, 8)[0]
    with pytest.raises(QuantbenchError, match="none of 8, 10, 11"):
        as_trtexec(Path("m.onnx"), options, Path("m.engine"), None, 9)


def test_static_shapes_and_several_profiles() -> None:
    one, _ = as_trtexec(Path("m.onnx"), BuildOptions(profiles=(parse_profile("x=4x3"),)), Path("e"))
    assert "--shapes=x:4x3" in one
    profiles = (parse_profile("x=1x3:2x3:4x3"), parse_profile("x=4x3:8x3:16x3"))
    two, _ = as_trtexec(Path("m.onnx"), BuildOptions(profiles=profiles), Path("e"))
    assert _read_back(two).profiles == profiles


def test_the_table_in_the_docs_is_generated() -> None:
    assert flags_table() in (ROOT / "docs" / "trtexec.md").read_text(encoding="utf-8")


def test_build_takes_and_gives_a_command_line(cli, tmp_path: Path) -> None:
    line = "trtexec --onnx=m.onnx --fp16 --workspace=4096 --saveEngine=e.plan --avgRuns=9"
    code, out, err = cli("build", "--from-trtexec", line, "--as-trtexec", "10")
    assert code == 0, err
    words = "--onnx=m.onnx --saveEngine=e.plan --fp16 --memPoolSize=workspace:4G"
    assert out.startswith(f"trtexec {words} --profilingVerbosity=detailed")
    assert "lost: --avgRuns: percentiles" in err
    code, out, err = cli("build", "m.onnx", "--precision", "fp16", "--as-trtexec", "11")
    assert (code, "--fp16" in out, "trtexec 11 lost its flag" in err) == (0, False, True)
    for words in (["m.onnx", "--from-trtexec", line], [], ["--from-trtexec", "trtexec --loadEngine=e"]):
        code, _, err = cli("build", *words)
        assert (code, err.count("\n")) == (2, 1), err


def test_a_line_builds_for_real(cli, tmp_path: Path) -> None:
    import onnx

    from tests.engines.models import conv_net

    onnx.save(conv_net(), str(tmp_path / "m.onnx"))
    line = f"trtexec --onnx={tmp_path / 'm.onnx'} --saveEngine={tmp_path / 'm.engine'}"
    code, _, err = cli("build", "--from-trtexec", line)
    assert code == 0, err
    assert (tmp_path / "m.engine").exists()
    assert "then: quantbench bench" in err
    code, out, err = cli(
        "trtexec", "--run", "--", f"--loadEngine={tmp_path / 'm.onnx'}", "--duration=0", "--iterations=3"
    )
    assert code == 0, err
    assert "3 calls in" in out
