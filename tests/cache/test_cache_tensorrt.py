"""TensorRT's dialect: exact bytes of real caches, values against numpy, and the names that broke other readers."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.cache.tensorrt import human_version, parse, render, render_cache
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.errors import QuantbenchError

CALIB = Path(__file__).parents[1] / "data" / "artefacts" / "calib"
REAL = sorted(path for path in CALIB.glob("*.cache") if path.read_bytes().startswith(b"TRT-"))

names = st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs",)), min_size=1)
scales = st.floats(min_value=0, max_value=2.0**120, width=32).map(abs)


def test_the_six_real_caches_of_the_dialect_are_there() -> None:
    assert len(REAL) == 6


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_cache_round_trips_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    cache = parse(data.decode())
    assert render_cache(cache).encode() == data
    assert len(cache.entries) == data.count(b"\n") - 1


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_cache_survives_the_way_through_ranges(path: Path) -> None:
    data = path.read_bytes()
    cache = parse(data.decode())
    assert len(cache.ranges) == len(cache.entries)
    assert render(cache.ranges, version=cache.version, algorithm=cache.algorithm).encode() == data


def test_values_are_amax_over_127_most_significant_digit_first() -> None:
    cache = parse((CALIB / "mlperf10_lenovo_rnnt_minmax.cache").read_text())
    assert (cache.version, cache.algorithm) == ("7200", "MinMaxCalibration")
    # The constants 1 and 2 of that network stand in its cache and say what the values mean.
    assert cache.ranges["one_constant"].amax == pytest.approx(1.0, rel=1e-7)
    assert cache.ranges["two_constant"].amax == pytest.approx(2.0, rel=1e-7)


@given(st.dictionaries(names, scales, max_size=20))
def test_any_names_and_values_come_back(scale_of: dict[str, float]) -> None:
    ranges = Ranges({name: TensorRange(scale * 127) for name, scale in scale_of.items()})
    cache = parse(render(ranges))
    assert {e.name: e.scale for e in cache.entries} == scale_of
    assert [e.name for e in cache.entries] == list(scale_of)
    assert render_cache(cache) == render(ranges) == render(cache.ranges)


@given(st.floats(min_value=0, max_value=1e38).map(abs))
def test_value_is_the_float32_nearest_to_amax_over_127(amax: float) -> None:
    line = render(Ranges({"x": TensorRange(amax)})).split("\n")[1]
    expected = int.from_bytes(struct.pack(">f", np.float32(amax / 127)), "big")
    assert line == f"x: {expected:x}"


@pytest.mark.parametrize("name", ["weights_scale", "a_scale_b", "foo: bar", "a: b: 3f800000", "resnet/Relu:0", " x ",
                                  "(Unnamed Layer* 3) [Padding]_output", "π"])  # fmt: skip
@pytest.mark.parametrize("spelled", ["3c010204", "0", "1", "800000", "abcdef", "7f800000"])
def test_names_and_unpadded_values_that_break_other_readers(name: str, spelled: str) -> None:
    text = f"TRT-8601-EntropyCalibration2\n{name}: {spelled}\n"
    cache = parse(text)
    (entry,) = cache.entries
    assert entry.name == name
    assert entry.scale == struct.unpack(">f", bytes.fromhex(spelled.zfill(8)))[0]
    assert render_cache(cache) == text


def test_missing_final_newline_and_carriage_returns_are_kept() -> None:
    for text in ("TRT-8601-MinMaxCalibration\nx: 3c010204", "TRT-8601-MinMaxCalibration\r\nx: 3c010204\r\n"):
        assert parse(text).entries[0].scale == pytest.approx(1 / 127)
        assert render_cache(parse(text)) == text


@pytest.mark.parametrize("bad", ["x: 3c01020g", "x: 0x3c01", "x: 123456789", "x: -1", "x: ", "x", "x 3c010204"])
def test_bad_lines_are_named(bad: str) -> None:
    with pytest.raises(QuantbenchError, match="line 3"):
        parse(f"TRT-8601-EntropyCalibration2\ny: 3c010204\n{bad}\n")


@pytest.mark.parametrize("amax", [float("inf"), float("nan"), -1.0, -0.0, 1e60])
def test_ranges_that_no_cache_may_hold_are_refused_by_name(amax: float) -> None:
    with pytest.raises(QuantbenchError, match="'conv1'"):
        render(Ranges({"conv1": TensorRange(amax)}))


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb"])
def test_names_that_cannot_come_back_are_refused(name: str) -> None:
    with pytest.raises(QuantbenchError, match="cannot stand"):
        render(Ranges({name: TensorRange(1.0)}))


def test_versions() -> None:
    assert [human_version(v) for v in ("5102", "7200", "8601", "100300")] == ["5.1.2", "7.2.0", "8.6.1", "10.3.0"]
