"""Implicit INT8: scales, tensors without one, and the layers that fell back for it."""

from pathlib import Path

from quantbench.inspection.gather import gather
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.logs.build_log import collect
from quantbench.inspection.logs.lexer import lex
from quantbench.inspection.page.render import page
from quantbench.inspection.story import tell
from quantbench.inspection.verdicts.judge import judge
from quantbench.inspection.verdicts.verdict import Verdict

LOGS = Path(__file__).parents[1] / "data" / "artefacts" / "logs"

# The lines of a TensorRT 10 build from a cache, in trtexec's form; `fc` falls back for its output's missing scale.
LOG = """\
[V] [TRT] Reading Calibration Cache for calibrator: EntropyCalibration2
[V] [TRT] INT8 Inference Tensor scales and zero-points: input_1:0 scale and zero-point \
Quantization(scale: {0.00787594,}, zero-point: {0,})
[V] [TRT] INT8 Inference Tensor scales and zero-points: conv1/out scale and zero-point \
Quantization(scale: {0.0629921,}, zero-point: {0,})
[V] [TRT] INT8 Inference Tensor scales and zero-points: never scale and zero-point \
Quantization(scale: {inf,}, zero-point: {0,})
[W] [TRT] Missing scale and zero-point for tensor logits, expect fall back to non-int8 implementation for any layer \
consuming or producing given tensor
[W] [TRT] Missing scale and zero-point for tensor logits, expect fall back to non-int8 implementation for any layer \
consuming or producing given tensor
[V] [TRT] Engine Layer Information:
Layer(CaskConvolution): conv1, Tactic: 0x0000000000000001, input_1:0 (Int8[1,3,8,8]) -> conv1/out (Int8[1,32:32,8,8])
Layer(CaskConvolution): conv2, Tactic: 0x0000000000000002, conv1/out (Half[1,32,8,8]) -> mid (Half[1,32,8,8])
Layer(CaskGemmConvolution): fc, Tactic: 0x0000000000000003, mid (Half[1,32,8,8]) -> logits (Float[1,10,1,1])
"""
IMPLICIT = LOG.splitlines()


def implicit() -> Inspection:
    log = collect(lex(IMPLICIT))
    return Inspection("t", (), layers=log.build.layers, log=log, build=log.build, story=tell(log.build))


def found(inspection: Inspection) -> dict[str, Verdict]:
    return {v.rule: v for v in judge(inspection)}


def test_scales_are_shown_as_ranges_the_useless_ones_first() -> None:
    verdict = found(implicit())["scales"]
    assert verdict.title == "3 tensors with an INT8 scale (implicit quantization), 1 of no use"
    assert verdict.severity == "problem"
    assert [(i.name, i.detail) for i in verdict.items] == [
        ("never", "scale inf, range ±inf"),
        ("conv1/out", "scale 0.0629921, range ±8"),
        ("input_1:0", "scale 0.00787594, range ±1.0002"),
    ]


def test_a_missing_scale_names_the_layers_that_fell_back() -> None:
    verdicts = found(implicit())
    assert verdicts["missing_scales"].title == "1 tensor without a scale"
    (item,) = verdicts["missing_scales"].items
    assert (item.name, item.detail) == ("logits", "line 5; made by fc in FP32")
    assert [(i.name, i.detail) for i in verdicts["float_layers"].items] == [
        ("conv2", "runs in FP16: its input has a scale, so INT8 was allowed: no INT8 kernel was faster"),
        ("fc", "runs in FP16: no scale for tensor logits (line 5)"),
    ]


def test_before_the_engine_exists_the_parsed_nodes_are_named() -> None:
    log = collect(
        lex(
            [
                "[V] [TRT] Parsing node: dense [Gemm]",
                "[V] [TRT] dense [Gemm] inputs: [mid -> (1, 32)[FLOAT]], [w -> (32, 10)[FLOAT]], ",
                "[V] [TRT] dense [Gemm] outputs: [logits -> (1, 10)[FLOAT]], ",
                *IMPLICIT[4:5],
            ]
        )
    )
    (item,) = found(Inspection("t", (), log=log, build=log.build))["missing_scales"].items
    assert item.detail == "line 4; made by dense"


def test_the_page_shows_them() -> None:
    html = page(implicit()).replace("\u200b", "")
    for words in ("3 tensors with an INT8 scale", "range ±1.0002", "no scale for tensor logits", "1 tensor without"):
        assert words in html


def test_the_cookbooks_log_of_implicit_int8() -> None:
    (inspection,) = gather([LOGS / "cookbook1016_05-Plugin_UseINT8-PTQ_log-main.py.log"])
    verdicts = found(inspection)
    assert [(i.name, i.detail) for i in verdicts["missing_scales"].items] == [("outputT0", "line 3")]
    assert "not_verbose" in verdicts
