"""Timings out of logs: formats by strides, kernels by names, works by the parser's lines."""

import re
from collections import Counter
from pathlib import Path

import pytest

from quantbench.errors import QuantbenchError
from quantbench.latency.device_file import device_names, read_device
from quantbench.latency.kernel import kernel_of
from quantbench.latency.layout import Format, format_of, parse_strided
from quantbench.latency.learn import without_launch_bound, without_slow_start
from quantbench.latency.log_timings import Timed
from quantbench.latency.sources import Source, read_sources
from quantbench.latency.work import Conv, Work, conv_work, work_of
from quantbench.layers.layer import Layer, LayerTensor
from tests.latency.conftest import NO_LICENCE


@pytest.mark.parametrize(
    ("text", "form", "sizes"),
    [
        ("Float(8294400,32400,180,1)", "FP32:linear", (256, 180, 180)),
        ("Float(8294400,1,46080,256)", "FP32:hwc", (256, 180, 180)),
        ("Half(1036800,1:8,5760,32)", "FP16:hwc8", (256, 180, 180)),
        ("Half(4147200,32400:2,180,1)", "FP16:chw2", (256, 180, 180)),
        ("Int8(8549376,534336:4,968,1)", "INT8:chw4", (64, 552, 968)),
        ("Int8(1068672,534336:32,968,1)", "INT8:chw32", (64, 552, 968)),
        ("Half(128,1,1,1)", "FP16:linear", (128, 1, 1)),
        ("Float(1:4,8349,121,1)", "FP32:chw4", (4, 69, 121)),
    ],
)
def test_strides_tell_layout_and_sizes(text: str, form: str, sizes: tuple[int, ...]) -> None:
    (tensor,) = parse_strided(text)
    assert tensor.format == Format.parse(form)
    assert tensor.sizes == sizes


def test_strides_of_several_tensors_and_of_none() -> None:
    assert [t.format.dtype for t in parse_strided("Int8(51200,25600:32,160,1), Half(51200,25600:32,160,1)")] == [
        "INT8",
        "FP16",
    ]
    assert parse_strided("") == ()
    assert parse_strided("Float()")[0].sizes == ()


@pytest.mark.parametrize(
    ("name", "tile", "math"),
    [
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x64x32_stage5_g1_tensor16x8x8",
         (128, 64), "TF32"),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_tilesize96x64x64_stage3",
         (96, 64), "INT8"),
        ("ampere_fp32_icudnn_int8x4_128x64_relu_medium_nn_v1", (128, 64), "DP4A"),
        ("ampere_scudnn_128x32_sliced1x4_ldg4_relu_exp_small_nhwc_tn_v1", (128, 32), "FP32"),
        ("ampere_h16816cudnn_256x64_ldg8_relu_exp_stages_64x3_small_nhwc_tn_v1", (256, 64), "FP16"),
    ],
)  # fmt: skip
def test_kernel_names_tell_tile_and_arithmetic(name: str, tile: tuple[int, int], math: str) -> None:
    assert kernel_of(name) == (tile, math, False)


def test_winograd_tiles_are_no_tiles() -> None:
    kernel = kernel_of("sm80_xmma_fprop_wngd_f16f16_f16_f16_nhwckrsc_nhwc_tilesize16x16x64x16_wngd2x2")
    assert kernel.winograd
    assert kernel.tile is None


def test_every_timing_of_the_a100_log_is_read(a100_log: Source) -> None:
    # 5,506 timed tactics (counted with grep, "Fastest Tactic" lines left out), 28 of them no longer than a launch.
    assert len(a100_log.rows) == 5506 - 28
    assert a100_log.note == "left out: 28 kernels no longer than a launch"
    convs = {r.work.shape for r in a100_log.rows if r.work.kind == "conv"}
    assert len(convs) == 11
    named = Counter(r.math for r in a100_log.rows if r.tile)
    assert set(named) == {"FP16", "FP32", "TF32"}
    assert a100_log.specs is not None
    assert (a100_log.specs.sms, a100_log.specs.capability, round(a100_log.specs.bandwidth_gbs)) == (108, "8.0", 1555)


def test_orin_int8_timings_are_read(orin_log: Source) -> None:
    pairs = Counter((str(r.work.source), str(r.work.target)) for r in orin_log.rows if r.work.kind == "conv")
    assert pairs[("INT8:chw32", "INT8:chw32")] > 700
    assert all(source == "INT8:chw4" or source == "INT8:chw32" for source, _ in pairs)
    first = next(r.work for r in orin_log.rows if r.work.kind == "conv")
    assert (first.m, first.n, first.k, first.window, first.stride) == (1104 * 1936, 64, 147, 7, 2)


def test_reformats_into_a_concat_count_what_they_move(a100_log: Source) -> None:
    # Strides are those of the concat's 512 channels; the tensor has 256.
    sizes = {r.work.elements for r in a100_log.rows if r.work.kind == "reformat" and r.work.channels == 256}
    assert 256 * 180 * 180 in sizes


def test_four_wide_fp32_of_an_engine_is_channels_innermost() -> None:
    # Engines of TensorRT 8 convert between it and channel-last by a NoOp; logs stride it as `1:4`.
    assert format_of(LayerTensor("x", "FP32", "CHW4", (1, 64, 56, 56), 4)) == Format("FP32", "hwc4")
    assert format_of(LayerTensor("x", "INT8", "CHW4", (1, 64, 56, 56), 4)) == Format("INT8", "chw4")


@pytest.mark.parametrize(
    ("dtype", "layout", "share"), [("FP16", "hwc8", 0.25), ("FP32", "linear", 0.5), ("INT8", "chw32", 0.5)]
)
def test_stride_beyond_the_window_leaves_rows_unread_and_pixels_that_fill_a_sector(
    dtype: str, layout: str, share: float
) -> None:
    form = Format(dtype, layout)
    first, residual = form.nbytes((1, 64, 56, 56)), 1000.0
    common = Work("conv", form, form, channels=64, read=first + residual, written=1.0, elements=1.0)
    work = conv_work(common, Conv(m=784, n=64, k=64, groups=1, window=1, stride=2, residual=True, first=first))
    assert work.read == pytest.approx(first * share + residual)


def test_channels_last_convolutions_are_one_class_however_far_they_are_padded() -> None:
    works = [
        Work("conv", Format("FP16", f"hwc{n}"), Format("FP16", "hwc8"), m=784, n=64, k=576, channels=64)
        for n in (8, 16)
    ]
    assert works[0].key == works[1].key
    stem = Work("conv", Format("FP16", "hwc4"), Format("FP16", "hwc8"), m=784, n=64, k=147, window=7, channels=3)
    assert stem.formats == (Format("FP16", "hwc4"), Format("FP16", "hwc"))


def test_scales_take_their_size_from_strides_not_from_their_own_constant(orin_log: Source) -> None:
    # `backbone.layer2.0.downsample.1.weight + … (Scale)`: its first ONNX input has 128 elements, the tensor 17 million.
    assert all(r.work.elements > 1e6 for r in orin_log.rows if r.work.kind == "pointwise" and r.work.channels == 128)


@pytest.mark.skipif(not NO_LICENCE.is_dir(), reason="needs ../shared, which is not part of the repository")
def test_copies_into_a_concat_have_the_batch_of_the_tensor_they_copy() -> None:
    log = "bevfusion_camera.backbone_RTX3080Ti_trt8.6.0_int8fp16_build.log.xz"
    (source,) = read_sources([NO_LICENCE / log])
    form = Format("INT8", "chw32")
    copies = {r.work.channels: r.work.read for r in source.rows
              if r.work.kind == "reformat" and (r.work.source, r.work.target) == (form, form)}  # fmt: skip
    # Concat_712 of [4, 2048, 16, 44] and others: strides do not tell that there are four cameras.
    assert copies[2048] == 4 * 2048 * 16 * 44


def _timed(ms: float, line: int, n: int = 64) -> Timed:
    return Timed(Work("conv", Format(), Format(), m=100, n=n, k=64), ms, line=line)


def test_a_clock_that_is_not_up_yet_is_seen() -> None:
    slow = [_timed(1.0, 1), _timed(1.1, 2, 32)]
    later = [_timed(0.1, 10 + i, 64 if i % 2 else 32) for i in range(20)]
    rows, dropped = without_slow_start([*slow, *later])
    assert dropped == 2
    assert rows == later
    assert without_slow_start(later) == (later, 0)


def test_works_bound_by_slow_launches_are_left_out_whole() -> None:
    rows = [_timed(0.0095, 1), _timed(0.033, 2), _timed(0.1, 3, 32)]
    assert without_launch_bound(rows) == rows[2:]


def test_work_of_a_predicted_layer_needs_no_attributes_of_tensorrt() -> None:
    layer = Layer(
        "c", "CaskConvolution", (LayerTensor("x", "INT8", "CHW32", (1, 64, 56, 56), 32),),
        (LayerTensor("y", "INT8", "CHW32", (1, 128, 28, 28), 32),), (LayerTensor("w", "INT8", "", (128, 64, 3, 3)),),
    )  # fmt: skip
    work = work_of(layer)
    assert work is not None
    assert (work.m, work.n, work.k, work.window, work.stride) == (784, 128, 576, 3, 2)


def test_attributes_and_device_files_beyond_all_bounds_are_no_fault(tmp_path: Path) -> None:
    layer = Layer("a", "Convolution", attributes={"a": float("inf"), "b": "words", "c": "9" * 5001, "d": 0, "e": "7"})
    assert layer.number("a", "b", "c", "d") == 0
    assert layer.number("a", "b", "c", "d", "e") == 7
    path = tmp_path / "d.yaml"
    text = device_names()["orin"].read_text(encoding="utf-8")
    damaged = re.sub(r"(?m)^(\s+rows:) \d+$", r"\1 .inf", text)
    assert damaged != text
    path.write_text(damaged, encoding="utf-8")
    with pytest.raises(QuantbenchError, match="is damaged"):
        read_device(path)
