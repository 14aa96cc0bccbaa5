"""Data for models of any inputs: arrays, joined sources, programs; what does not fit is said in one line."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.data.array_calls import ArrayCalls, save_call
from quantbench.data.calls import call_batches, joined
from quantbench.data.recording import record
from quantbench.data.spooled import Spooled
from quantbench.data.tensor_inputs import TensorInput, tensor_inputs
from quantbench.errors import QuantbenchError
from quantbench.images.arrays import ArrayFiles

IDS = TensorInput("ids", "int64", (None, 16))
MASK = TensorInput("mask", "float32", (None, 16))
SCALE = TensorInput("scale", "float32", (1,))
VOLUME = TensorInput("volume", "float32", (None, 1, 4, 8, 8))
RNG = np.random.default_rng(3)


def tokens(count: int) -> dict[str, np.ndarray]:
    return {"ids": RNG.integers(0, 99, (count, 16)), "mask": RNG.normal(size=(count, 16)).astype(np.float32)}


def test_one_npz_with_an_array_an_input(tmp_path: Path) -> None:
    arrays = tokens(5)
    save_call(tmp_path / "a.npz", arrays)
    calls = ArrayCalls((IDS, MASK), tmp_path / "a.npz")
    assert len(calls) == 5
    assert calls.name(3) == "a.npz[3]"
    feeds = [feed for feed, _ in call_batches(calls, 2)]
    assert [feed["ids"].shape for feed in feeds] == [(2, 16), (2, 16), (1, 16)]
    np.testing.assert_array_equal(np.concatenate([feed["mask"] for feed in feeds]), arrays["mask"])


def test_npy_files_named_after_the_inputs_and_a_table_that_is_shared(tmp_path: Path) -> None:
    for name, array in {**tokens(4), "scale": np.ones(1, np.float32)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    calls = ArrayCalls((SCALE, IDS, MASK), tmp_path)
    assert calls.shared == {"scale"}
    (feed, _), *rest = call_batches(calls, 8)
    assert not rest
    # What grows with the batch comes first: its first axis is the number of samples for everyone.
    assert next(iter(feed)) != "scale"
    assert {name: array.shape for name, array in feed.items()} == {"ids": (4, 16), "mask": (4, 16), "scale": (1,)}


def test_a_volume_a_file_without_its_batch_axis(tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", RNG.normal(size=(1, 4, 8, 8)).astype(np.float64))
    calls = ArrayCalls((VOLUME,), tmp_path)
    (feed, _), *_ = call_batches(calls, 8)
    assert feed["volume"].shape == (2, 1, 4, 8, 8)
    assert feed["volume"].dtype == np.float32


def test_sizes_that_differ_begin_new_batches(tmp_path: Path) -> None:
    wide = TensorInput("x", "float32", (None, 3, None, None))
    for index, side in enumerate((8, 8, 16, 16, 8)):
        save_call(tmp_path / f"{index}.npz", {"x": np.zeros((1, 3, side, side), np.float32)})
    shapes = [feed["x"].shape for feed, _ in call_batches(ArrayCalls((wide,), tmp_path), 4)]
    assert shapes == [(2, 3, 8, 8), (2, 3, 16, 16), (1, 3, 8, 8)]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"ids": np.zeros((2, 16), np.int64)}, "gives ids, but the model also takes 'mask', float32[N, 16]; add it"),
        ({**tokens(2), "other": np.zeros(1)}, "gives 'other', which is no input of the model; it takes ids, mask"),
        (
            {**tokens(2), "ids": np.zeros((2, 17), np.int64)},
            "gives input 'ids' int64[2, 17], the model takes int64[N, 16]",
        ),
        (
            {**tokens(2), "ids": np.zeros((2, 16))},
            "gives input 'ids' float64[2, 16], the model takes int64[N, 16]; save",
        ),
        ({**tokens(2), "mask": np.zeros((3, 16), np.float32)}, "different numbers of samples (ids 2, mask 3)"),
        ({**tokens(2), "mask": np.array([["a"]])}, "holds mask as <U1[1, 1]; expected numbers"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(tmp_path: Path, arrays: dict, words: str) -> None:
    save_call(tmp_path / "a.npz", arrays)
    with pytest.raises(QuantbenchError) as error:
        ArrayCalls((IDS, MASK), tmp_path / "a.npz")
    assert words in str(error.value)


def test_whole_numbers_in_another_width_pass_and_lossy_ones_do_not(tmp_path: Path) -> None:
    narrow = TensorInput("x", "int8", (None, 2))
    np.save(tmp_path / "x.npy", np.array([[1, -3]], np.int64))
    assert ArrayCalls((narrow,), tmp_path / "x.npy").call(0)["x"].dtype == np.int8
    np.save(tmp_path / "x.npy", np.array([[1, 300]], np.int64))
    with pytest.raises(QuantbenchError, match="it holds values that int8 cannot"):
        ArrayCalls((narrow,), tmp_path / "x.npy")


LEFT = TensorInput("left", "float32", (None, 2))
RIGHT = TensorInput("right", "float32", (None, 2))


def folder(path: Path, **files: float) -> ArrayFiles:
    path.mkdir()
    for name, value in files.items():
        np.save(path / f"{name}.npy", np.full((1, 2), value, np.float32))
    return ArrayFiles(path)


def test_sources_are_paired_by_name(tmp_path: Path) -> None:
    pair = joined(
        (LEFT, RIGHT), {"left": folder(tmp_path / "l", a=1, b=2), "right": folder(tmp_path / "r", b=20, a=10)}
    )
    assert [(float(c["left"][0, 0]), float(c["right"][0, 0])) for c in map(pair.call, range(2))] == [(1, 10), (2, 20)]


def test_sources_without_common_names_are_paired_by_order_and_one_serves_all(tmp_path: Path) -> None:
    sources = {
        "left": folder(tmp_path / "l", a=1, b=2),
        "right": folder(tmp_path / "r", x=10, y=20),
        "scale": folder(tmp_path / "s", s=0.5),
    }
    three = joined((LEFT, RIGHT, TensorInput("scale", "float32", (2,))), sources)
    (feed, _), *rest = call_batches(three, 4)
    assert not rest
    assert feed["right"][:, 0].tolist() == [10, 20]
    assert feed["scale"].shape == (2,)


def test_sources_that_do_not_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantbenchError, match=r"different numbers of samples \(left 2, right 3\)"):
        joined(
            (LEFT, RIGHT), {"left": folder(tmp_path / "l", a=1, b=2), "right": folder(tmp_path / "r", x=1, y=1, z=1)}
        )
    with pytest.raises(QuantbenchError, match=r"sample 'c\[0\]' of input 'right' has no partner"):
        joined(
            (LEFT, RIGHT), {"left": folder(tmp_path / "m", a=1, b=2), "right": folder(tmp_path / "n", a=1, b=1, c=1)}
        )


def test_a_data_loader_a_data_set_and_a_generator_are_the_same() -> None:
    import torch

    x, y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
    data = torch.utils.data.TensorDataset(x, y)

    def generator():
        for row in x:
            yield {"left": row.tolist(), "text": "not for the model"}

    one = (LEFT,)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    found = [Spooled(one, items, 100, "data.py:data") for items in (loader, data, generator, generator())]
    for spooled in found:
        assert len(spooled) == 6
        np.testing.assert_array_equal(np.concatenate([spooled.call(i)["left"] for i in range(6)]), x.numpy())
    assert [found[0].label(i) for i in range(6)] == list(range(6))
    assert [found[1].label(i) for i in range(6)] == list(range(6))


def test_labels_are_read_once_a_file_not_once_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "m.npz", left=np.zeros((5, 2), np.float32), labels=np.arange(5))
    calls = ArrayCalls((LEFT,), tmp_path / "m.npz")
    taken: list[str] = []
    real = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda file, key: taken.append(key) or real(file, key))
    assert [calls.label(i) for i in range(5)] == list(range(5))
    assert taken == ["labels"]


def test_an_endless_generator_is_read_as_far_as_it_is_used() -> None:
    spooled = Spooled((LEFT,), ({"left": np.zeros((2, 2), np.float32)} for _ in itertools.count()), 7, "data.py:data")
    assert len(spooled) == 8


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "gives no items"),
        (7, "is int; it takes something to iterate over"),
        ([{"right": np.zeros(2)}], "data.py:data: item 0 gives right, but the model also takes 'left'"),
        ([np.zeros((1, 3), np.float32)], "item 0 gives input 'left' float32[1, 3], the model takes float32[N, 2]"),
    ],
)
def test_items_that_do_not_fit(items: object, words: str) -> None:
    with pytest.raises(QuantbenchError) as error:
        Spooled((LEFT,), items, 10, "data.py:data")
    assert words in str(error.value)


def test_the_files_of_a_program_go_with_it() -> None:
    spooled = Spooled((LEFT,), [np.zeros((1, 2), np.float32)], 10, "data.py:data")
    where = spooled.path
    assert where.is_dir()
    del spooled
    assert not where.exists()


PROGRAM = """
import sys
import numpy as np
import onnxruntime as ort

encoder, decoder = ort.InferenceSession("encoder.onnx"), ort.InferenceSession(open("decoder.onnx", "rb").read())
for step in range(int(sys.argv[1])):
    (hidden,) = encoder.run(None, {"x": np.full((1, 2), step, np.float32)})
    decoder.run(None, {"x": hidden})
"""


def double(path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"], "double")], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_program_is_recorded_model_by_model(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    for name in ("encoder", "decoder"):
        double(tmp_path / f"{name}.onnx")
    (tmp_path / "app.py").write_text(PROGRAM, encoding="utf-8")
    plain = onnxruntime.InferenceSession
    code, out, error = cli("record", "--max-calls", 3, "app.py", 9)
    assert code == 0
    assert onnxruntime.InferenceSession is plain
    assert out.splitlines()[0] == f"recorded/encoder: 3 of 9 calls of {tmp_path / 'encoder.onnx'}"
    assert "quantbench ptq" in error
    inputs = tensor_inputs(onnx.load("decoder.onnx"))
    calls = ArrayCalls(inputs, tmp_path / "recorded" / "model-2")
    kept = {float(calls.call(i)["x"][0, 0]) for i in range(3)}
    assert len(kept) == 3
    assert kept <= {2.0 * step for step in range(9)}
    assert cli("record", "app.py", 9)[0] == 2


def test_a_sample_is_fair_and_seeded(tmp_path: Path) -> None:
    from quantbench.data.recording import Recorded

    def sample(folder: Path) -> list[float]:
        recorded = Recorded("m", folder)
        for value in range(200):
            recorded.keep({"x": np.full(1, value)}, 20)
        return sorted(float(np.load(file)["x"][0]) for file in folder.iterdir())

    first = sample(tmp_path / "a")
    assert first == sample(tmp_path / "b")
    assert len(first) == 20
    assert max(first) > 150


def test_a_program_that_feeds_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('nothing')\n", encoding="utf-8")
    with pytest.raises(QuantbenchError, match="fed no onnxruntime session"):
        record(tmp_path / "app.py", [], tmp_path / "out")
