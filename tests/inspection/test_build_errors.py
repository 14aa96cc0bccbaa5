"""The table of errors: the page is its print, each entry is found by its own words, and each way out exists."""

import re
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.inspection.errors.entry import ErrorEntry
from quantbench.inspection.errors.page import errors_page
from quantbench.inspection.errors.registry import ERRORS, explain_error
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import collect
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.verdicts.judge import judge

ROOT = Path(__file__).parents[2]


def test_the_page_is_generated_from_the_table() -> None:
    assert (ROOT / "docs" / "build-errors.md").read_text(encoding="utf-8") == errors_page()
    assert len(ERRORS) >= 25


@pytest.mark.parametrize("entry", ERRORS.values(), ids=lambda e: e.name)
def test_an_entry_is_found_by_its_own_words_and_complete(entry: ErrorEntry) -> None:
    assert explain_error(entry.printed) is entry
    assert explain_error(f"[TRT] [E] 2: {entry.printed}") is entry
    assert entry.meaning.endswith(".")
    assert entry.causes
    assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", entry.thread)


def test_commands_and_options_that_entries_name_exist(quantbench_cli: CliRunner) -> None:
    group = get_command(app)
    commands = getattr(group, "commands")  # noqa: B009 (a click group)
    for entry in ERRORS.values():
        for text in (entry.command, *entry.causes):
            for words, rest in re.findall(r"quantbench ([a-z-]+(?: [a-z][a-z-]+)?)((?:(?! quantbench|;|\().)*)", text):
                name, _, second = words.partition(" ")
                command = commands[name]
                command = command.commands[second] if second and hasattr(command, "commands") else command
                options = {option for parameter in command.params for option in parameter.opts}
                named = set(re.findall(r"(?<!\S)--[a-z0-9-]+", rest))
                assert named <= options, (entry.name, words, named - options)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        # from the threads that issue 11 names
        ("[E] Error[10]: Could not find any implementation for node w + w_QuantizeLinear + Conv_1 + Add_2.",
         "no-implementation"),
        ("[E] [TRT] 10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any "
         "implementation for node {ForeignNode[a...b]}.)", "foreign-node-no-implementation"),
        ("[E] Error[2]: [optimizer.cpp::filterQDQFormats::4422] Error Code 2: Internal Error (Assertion "
         "!n->candidateRequirements.empty() failed. no supported formats)", "candidates-empty"),
        ("[E] [TRT] onnx::QuantizeLinear_429: invalid weights type of Int8", "invalid-weights-type"),
        ("[E] [TRT] 3: bn: shift weights has count 64 but 32 was expected", "weights-count"),
        ("[E] 4: [network.cpp::validate] Error Code 4: Int8 precision has been set for a layer or layer output, but "
         "int8 is not configured in the builder", "int8-not-configured"),
        ("[E] Error[1]: [executionContext.cpp::executeInternal::966] Error Code 1: Cuda Runtime (an illegal memory "
         "access was encountered)", "illegal-memory"),
        ("[E] [TRT] 3: getPluginCreator could not find plugin: Round version: 1", "plugin-not-found"),
        ("[W] [TRT] ModelImporter.cpp:135: No importer registered for op: Foo. Attempting to import as plugin.",
         "no-importer"),
        ("[E] 4: [standardEngineBuilder.cpp::initCalibrationParams::1402] Error Code 4: Internal Error (Calibration "
         "failure occurred with no scaling factors detected. This could be …)", "no-scaling-factors"),
    ],
)  # fmt: skip
def test_errors_of_a_log_are_explained_not_repeated(line: str, name: str) -> None:
    log = collect(lex([line]))
    verdicts = judge(Inspection("t", (), log=log, build=log.build))
    found = next(v for v in verdicts if v.rule == f"error_{name}")
    entry = ERRORS[name]
    assert entry.meaning in found.title
    assert entry.causes[0] in found.why
    assert entry.url in found.advice
    assert "line 1" in found.items[0].detail


def test_explain_takes_the_text_of_an_error(quantbench_cli: CliRunner) -> None:
    if not any(command.name == "inspect" for command in app.registered_commands):
        register_commands()
    result = quantbench_cli.invoke(app, ["explain", "Error[10]: Could not find any implementation for node Conv_1."])
    assert result.exit_code == 0, result.output
    assert "no-implementation" in result.output
    assert "→ quantbench build MODEL.onnx --pool workspace=4G" in result.output
    for remembered, name in (
        ("int8 is not configured", "int8-not-configured"),
        ("shift weights count", "weights-count"),
        ("invalid weights type of Int8", "invalid-weights-type"),
    ):
        assert name in quantbench_cli.invoke(app, ["explain", remembered]).output
    assert "outside-profile" in quantbench_cli.invoke(app, ["explain"]).output
    wrong = quantbench_cli.invoke(app, ["explain", "no-scalling-factors"])
    assert "did you mean no-scaling-factors" in str(wrong.exception)
