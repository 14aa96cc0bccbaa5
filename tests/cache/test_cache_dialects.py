"""Every dialect against files that the tools themselves wrote, and what we write against their own readers."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.cache import (
    aimet,
    modelopt,
    onnxruntime_flatbuffers,
    onnxruntime_json,
    onnxruntime_text,
    quantbench_json,
    tensorrt,
)
from quantbench.cache.convert import WRITABLE, convert
from quantbench.cache.model import CalibrationCache
from quantbench.cache.read import decode, encode, parse_bytes, read_cache
from quantbench.cache.torch_zip import StoredTensor
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of

DATA = Path(__file__).parents[1] / "data"
PEERS = DATA / "cache"
CALIB = DATA / "artefacts" / "calib"

texts = st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs",)), min_size=1)
words = st.from_regex(r"[A-Za-z0-9_./()* -]*[A-Za-z0-9_/]:?[A-Za-z0-9_/]", fullmatch=True)
scales = st.floats(min_value=2.0**-100, max_value=2.0**100, width=32)


def amax_of(cache: CalibrationCache) -> dict[str, float]:
    return {entry.name: entry.amax for entry in cache.entries}


@pytest.mark.parametrize("path", sorted(CALIB.iterdir()), ids=lambda path: path.name)
def test_every_cache_of_the_artefacts_is_read(path: Path) -> None:
    cache = read_cache(path)
    assert len(cache.entries) == path.read_bytes().count(b"\n") - 1
    assert all(np.isfinite(entry.scale) and entry.scale >= 0 for entry in cache.entries)
    assert tensorrt.render_cache(cache).encode() == path.read_bytes()


def test_legacy_header_holds_two_doubles() -> None:
    cache = read_cache(CALIB / "mlperf07_fujitsu_3dunet_legacy_header_EXCERPT.cache")
    assert cache.dialect == "tensorrt-legacy"
    assert cache.details == {"cutoff": "1.0", "quantile": "0.99999"}
    assert cache.by_name["input"].amax == pytest.approx(9.40559, rel=1e-5)


def test_onnxruntimes_four_files_of_one_calibration() -> None:
    saved = amax_of(read_cache(PEERS / "onnxruntime" / "saved.json"))
    table = amax_of(read_cache(PEERS / "onnxruntime" / "calibration.json"))
    text = amax_of(read_cache(PEERS / "onnxruntime" / "calibration.cache"))
    binary = amax_of(read_cache(PEERS / "onnxruntime" / "calibration.flatbuffers"))
    assert saved == table
    assert text == binary
    assert set(saved) == set(text)
    # The JSON has both bounds; text and flatbuffers the larger signed one, which is too small for this tensor.
    conv = "/block/block.0/Conv_output_0"
    assert saved[conv] == pytest.approx(1.0010803937911987)
    assert text[conv] == pytest.approx(0.8579831123352051)
    assert saved["/relu/Relu_output_0"] == text["/relu/Relu_output_0"]


def test_old_onnxruntime_json_and_ranges_per_channel() -> None:
    cache = parse_bytes(b'{"a": [-3.0, 2.0], "b: x": [0, 1]}')
    assert cache.dialect == "onnxruntime-json"
    assert amax_of(cache) == {"a": pytest.approx(3.0), "b: x": pytest.approx(1.0)}
    array = {"CLS": "numpy.array", "dtype": "float32"}
    tensor = {
        "CLS": "TensorData",
        "lowest": {**array, "data": [[-1.0, -9.0]]},
        "highest": {**array, "data": [[2.0, 3.0]]},
    }
    cache = parse_bytes(json.dumps({"w": tensor}).encode())
    assert amax_of(cache) == {"w": pytest.approx(9.0)}
    assert "per channel" in cache.notes[0]


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0", "2.0.0"])
def test_aimets_three_versions_agree(version: str) -> None:
    cache = read_cache(PEERS / "aimet" / f"tiny_{version}.encodings")
    assert (cache.dialect, cache.version) == ("aimet", version)
    found = amax_of(cache)
    assert len(found) == 6
    # Asymmetric: the farther bound of the 0.6.1 file, -3.906; unsigned from 0: the upper one.
    assert found["input"] == pytest.approx(3.9061198047563144, rel=1e-6)
    assert found["/relu/Relu_output_0"] == pytest.approx(2.102385997772217, rel=1e-6)


def test_aimets_symmetric_grid_keeps_its_scale() -> None:
    encoding = {"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": -128.0, "scale": 0.25}
    cache = parse_bytes(
        json.dumps({"version": "0.6.1", "activation_encodings": {"x": [encoding]}, "param_encodings": {}}).encode()
    )
    assert cache.entries[0].scale == 0.25


@pytest.mark.parametrize("name", ["tiny_modelopt.pth", "tiny_modelopt_state_dict.pth"])
def test_modelopts_state_is_read_without_torch_and_finds_its_tensors(name: str) -> None:
    cache = read_cache(PEERS / "modelopt" / name)
    assert amax_of(cache) == {
        "conv1.input_quantizer": pytest.approx(4.0937371253967285),
        "block.0.input_quantizer": pytest.approx(2.7761454582214355),
        "fc.input_quantizer": pytest.approx(0.5104301571846008),
    }
    view = view_of(load_model(PEERS / "tiny.onnx"))
    converted = tensorrt.parse(decode(convert(cache, "tensorrt", view=view).data))
    assert list(amax_of(converted)) == ["input", "/relu/Relu_output_0", "/ReduceMean_output_0"]
    # And back: a state_dict of scalars under the modules' names.
    back = parse_bytes(convert(converted, "modelopt", view=view).data)
    assert amax_of(back) == amax_of(cache)


def test_onnxruntime_reads_the_json_that_we_write(tmp_path: Path) -> None:
    from onnxruntime.quantization.calibrate import load_tensors_data

    path = tmp_path / "ranges.json"
    path.write_text(onnxruntime_json.render(Ranges({"a:0": TensorRange(2.5), "b: c_scale": TensorRange(0.125)})))
    data = load_tensors_data(path)
    assert [bound.item() for bound in (*data["a:0"].range_value, *data["b: c_scale"].range_value)] == [
        -2.5,
        2.5,
        -0.125,
        0.125,
    ]


def test_onnxruntime_reads_the_flatbuffers_that_we_write() -> None:
    from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

    data = onnxruntime_flatbuffers.render(Ranges({"b": TensorRange(0.125), "a:0": TensorRange(2.5)}))
    table = TrtTable.GetRootAs(data)
    pairs = [(table.Dict(i).Key(), table.Dict(i).Value()) for i in range(table.DictLength())]
    assert sorted(pairs) == [(b"a:0", b"2.5"), (b"b", b"0.125")]


def test_onnxruntime_writes_what_we_read_back_on_its_own_table() -> None:
    """The bytes that onnxruntime wrote and ours for the same values hold the same pairs."""
    cache = read_cache(PEERS / "onnxruntime" / "calibration.flatbuffers")
    again = parse_bytes(onnxruntime_flatbuffers.render(cache.ranges))
    assert amax_of(again) == amax_of(cache)


@pytest.mark.parametrize("to", WRITABLE)
@given(scale_of=st.dictionaries(texts, scales, min_size=1, max_size=8))
def test_every_written_dialect_reads_back(to: str, scale_of: dict[str, float]) -> None:
    if to in ("modelopt", "onnxruntime-text"):
        return  # the one names modules, the other cannot hold names that look like values; both are tested below
    ranges = Ranges({name: TensorRange(scale * 127) for name, scale in scale_of.items()})
    cache = tensorrt.parse(tensorrt.render(ranges))
    back = parse_bytes(convert(cache, to).data)
    assert back.dialect == to
    assert {e.name: np.float32(e.scale) for e in back.entries} == {n: np.float32(s) for n, s in scale_of.items()}


@given(st.dictionaries(words, scales, min_size=1, max_size=8))
def test_onnxruntime_text_reads_back(scale_of: dict[str, float]) -> None:
    scale_of = {f"t{name}".strip() + "_x": scale for name, scale in scale_of.items()}
    ranges = Ranges({name: TensorRange(scale * 127) for name, scale in scale_of.items()})
    back = parse_bytes(onnxruntime_text.render(ranges).encode())
    assert back.dialect == "onnxruntime-text"
    assert {e.name: e.scale for e in back.entries} == pytest.approx(scale_of)


@given(st.dictionaries(texts, scales, min_size=1, max_size=8))
def test_modelopt_safetensors_read_back(scale_of: dict[str, float]) -> None:
    ranges = Ranges({f"{name}.input_quantizer": TensorRange(scale) for name, scale in scale_of.items()})
    back = parse_bytes(modelopt.render(ranges))
    assert {e.name: e.amax for e in back.entries} == pytest.approx({n: ranges[n].amax for n in ranges})


def test_decimals_with_and_without_header() -> None:
    bare = parse_bytes(b"conv1:4.65\nresnet/Relu:0: 2\n")
    assert (bare.dialect, amax_of(bare)) == (
        "decimal",
        {"conv1": pytest.approx(4.65), "resnet/Relu:0": pytest.approx(2.0)},
    )
    headed = parse_bytes(b"TRT-8601-EntropyCalibration2\nx: 0.0078740157\n")
    assert (headed.dialect, headed.version) == ("decimal", "8601")
    assert amax_of(headed)["x"] == pytest.approx(1.0)
    assert parse_bytes(b"x:63.5\n", values="inverse").entries[0].amax == pytest.approx(2.0)
    with pytest.raises(QuantbenchError, match="cannot mean"):
        parse_bytes(b"x:63.5\n", values="nonsense")


def test_names_with_colons_are_split_at_the_last_separator() -> None:
    assert parse_bytes(b"resnet/Relu:0 2.64\n").entries[0].name == "resnet/Relu:0"
    assert parse_bytes(b"a: b: 3c010204\n").entries[0].name == "a: b"


def test_headerless_hexadecimals_are_named_as_such() -> None:
    cache = parse_bytes(b"a: 3c010204\nb: 1\n")
    assert cache.dialect == "tensorrt-headerless"
    assert "would not read" in cache.notes[0]


def test_names_that_are_no_utf8_keep_their_bytes() -> None:
    data = b"TRT-8601-EntropyCalibration2\n\xff\xfe: 3c010204\n"
    cache = parse_bytes(data)
    assert encode(tensorrt.render_cache(cache)) == data
    assert convert(cache, "tensorrt").data == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"hello",
        b"{}",
        b"[]",
        b'{"a": 1}',
        b"{",
        b"\0\1\2",
        b"PK\x03\x04junk",
        b"\x10\0\0\0\0\0\0\0{broken........",
    ],
)
def test_other_files_are_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(QuantbenchError) as caught:
        read_cache(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        cache = parse_bytes(data)
    except QuantbenchError:
        return
    assert cache.dialect


def test_torch_archive_runs_no_code(tmp_path: Path) -> None:
    import pickle
    import zipfile

    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    path = tmp_path / "evil.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(QuantbenchError):
        read_cache(path)
    assert not marker.exists()


def test_parameters_of_aimet_that_are_no_list_are_refused() -> None:
    with pytest.raises(QuantbenchError, match="have 7 for param_encodings, not a list"):
        aimet.parse({"activation_encodings": {}, "param_encodings": 7})


def test_torch_encodings_of_aimet_say_what_to_give_instead() -> None:
    data = {"activation_encodings": {"conv1": {"input": {"0": {"bitwidth": 8}}}}, "param_encodings": {}}
    with pytest.raises(QuantbenchError, match="torch modules"):
        aimet.parse(data)


def test_ranges_json_of_quantbench() -> None:
    ranges = Ranges({"x": TensorRange(3.0, "mse", {"bins": 2048})})
    cache = parse_bytes(quantbench_json.render(ranges).encode())
    assert (cache.dialect, cache.algorithm, amax_of(cache)) == ("quantbench", "mse", {"x": pytest.approx(3.0)})


def test_bad_ranges_are_converted_only_when_dropped() -> None:
    cache = parse_bytes(b"TRT-8601-EntropyCalibration2\na: 7f800000\nb: 3c010204\nc: 7fc00000\n")
    with pytest.raises(QuantbenchError, match="--drop-bad"):
        convert(cache, "tensorrt")
    result = convert(cache, "tensorrt", drop_bad=True)
    assert result.data == b"TRT-8601-EntropyCalibration2\nb: 3c010204\n"
    assert set(result.dropped) == {"a", "c"}


def test_inverted_values_are_turned_round() -> None:
    text = tensorrt.render(Ranges({"x": TensorRange(127 * 127 / 4.0)}))
    result = convert(tensorrt.parse(text), "tensorrt", invert=True)
    assert tensorrt.parse(result.data.decode()).entries[0].amax == pytest.approx(4.0)


def test_modelopt_needs_the_model_and_unknown_dialects_are_named() -> None:
    cache = parse_bytes(b"a: 3c010204\n")
    with pytest.raises(QuantbenchError, match="--model"):
        convert(cache, "modelopt")
    with pytest.raises(QuantbenchError, match="tensorrt, "):
        convert(cache, "caffe")


def test_a_storage_that_is_packed_in_an_unknown_way_is_broken(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("data/0", b"\0" * 8)
    data = (tmp_path / "c.pt").read_bytes()
    local, central = data.index(b"PK\3\4"), data.index(b"PK\1\2")
    for place in (local + 8, central + 10):  # the method of compression
        data = data[:place] + b"\x55\x00" + data[place + 2 :]
    (tmp_path / "c.pt").write_bytes(data)
    with pytest.raises(QuantbenchError, match="data/0 is missing or broken"):
        StoredTensor(tmp_path / "c.pt", "data/0", "FloatStorage", 0, (2,), (1,)).read()


@pytest.mark.parametrize("entry", [
    {"name": "x", "bw": float("inf"), "dtype": "INT", "offset": [0], "scale": [0.1]},
    {"name": "x", "bw": 8, "dtype": "INT", "offset": [0], "scale": {"0": 1}},
    {"name": "x", "bw": 8, "dtype": "INT", "offset": [10**400], "scale": [0.1]},
    ["x"],
])  # fmt: skip
def test_an_encoding_of_aimet_that_is_none_is_named(entry: object) -> None:
    """Found by fuzzing: infinity for a number of bits, a list for an object."""
    with pytest.raises(QuantbenchError, match=r"AIMET|encoding of"):
        aimet.parse({"activation_encodings": [entry]})
    with pytest.raises(QuantbenchError, match=r"AIMET|encoding of"):
        aimet.parse({"activation_encodings": {"x": ["bitwidth"]}})
