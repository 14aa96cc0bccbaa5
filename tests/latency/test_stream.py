"""Layers that move bytes: launch, memory, cache, pace; what a first layer takes besides."""

import numpy as np
import pytest

from quantbench.latency.assemble import learn_device
from quantbench.latency.device import Device, Offset
from quantbench.latency.device_file import find_device
from quantbench.latency.engine_time import time_of_works
from quantbench.latency.layout import Format
from quantbench.latency.prior import Prior
from quantbench.latency.residual import features
from quantbench.latency.sources import Source
from quantbench.latency.stream import Stream, from_memory, padded, stream_us
from quantbench.latency.work import Work


def _reformat(channels: int, source: str, target: str) -> Work:
    first, last = Format.parse(source), Format.parse(target)
    dims = (1, channels, 100, 100)
    return Work("reformat", first, last, channels=channels, read=first.nbytes(dims), written=last.nbytes(dims))


def test_bytes_in_the_cache_count_less() -> None:
    small, large = from_memory(np.array([2e6, 100e6]), 6e6)
    assert small == pytest.approx(0.3 * 2e6)
    assert large == pytest.approx(100e6 - 0.7 * 6e6)


def test_padding_is_worked_through() -> None:
    assert padded(_reformat(3, "FP32:linear", "INT8:chw32")) == 32 * 100 * 100
    assert padded(_reformat(64, "FP32:linear", "INT8:chw32")) == 64 * 100 * 100


def test_time_is_a_launch_and_the_slower_of_memory_and_multiprocessors() -> None:
    stream = Stream(3.0, 1000.0, 100.0)
    memory, work = (stream_us(stream, np.array([m]), np.array([e]), 0.0)[0] for m, e in ((1e5, 1.0), (1.0, 1e4)))
    assert memory == pytest.approx(103.0)
    assert work == pytest.approx(103.0)


def test_a_transposed_convolution_takes_longer_than_the_convolution_of_its_products() -> None:
    device = find_device("a100")
    form, out = Format("INT8", "chw32"), Format("FP32", "linear")
    work = Work("deconv", form, out, m=32400, n=256, k=256, window=2, stride=2, channels=256, read=4e6, written=16e6)
    found = device.estimate(work)
    assert found.sure == "borrowed"
    assert "transposed" in found.why
    assert found.us > 1.2 * device.estimate(Work("conv", form, out, m=32400, n=256, k=256, channels=256, read=4e6,
                                                 written=16e6)).us  # fmt: skip


def test_first_layer_counts_once_in_a_profile_and_never_in_kernels(a100: Device) -> None:
    # The first layers of these profiles take 40 to 70 µs longer than their kernels do elsewhere.
    assert 20 < a100.profile.first < 80
    works = [("x", "reformats", _reformat(64, "FP32:linear", "FP16:hwc8"))] * 3
    with_first, without = time_of_works(a100, works), time_of_works(a100, works, whole=False)
    assert with_first.profile.ms - without.profile.ms == pytest.approx(a100.profile.first / 1e3)
    assert with_first.tactics == without.tactics
    assert with_first.compute == without.compute


def test_offsets_of_a_log_without_profile_are_assumed(a100_log: Source) -> None:
    device = learn_device("a100", [Source(a100_log.names, a100_log.rows[:2000], specs=a100_log.specs)], Prior())
    assert device.profile == Offset(3.0, 3.0, "assumed: no profile of this GPU was learnt")


def test_sizes_beyond_64_bits_have_features() -> None:
    form = Format("FP32", "linear")
    assert np.isfinite(features([Work("gemm", form, form, m=1 << 70, n=1 << 64, k=3)])).all()
