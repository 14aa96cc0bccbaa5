"""`quantbench ptq` end to end on networks that take no single picture."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from quantbench.data.array_calls import save_call
from quantbench.records.run import PtqRun
from tests.feeds.networks import NETWORKS, Network, decoder, encoder, image_and_vector, stereo, table, tokens


def run(cli, folder: Path, network: Network, *arguments: object) -> PtqRun:
    model = folder / "model.onnx"
    onnx.save(network.model, model)
    out = folder / "run"
    code, _, error = cli("ptq", model, "--out", out, "--no-compile", "--calibrator", "mse", *arguments)
    assert code == 0, error
    return PtqRun.load(out / "run.json")


@pytest.mark.parametrize("kind", NETWORKS)
def test_arrays_of_every_kind(cli, tmp_path: Path, kind: str) -> None:
    network = NETWORKS[kind]()
    save_call(tmp_path / "data.npz", network.samples(24))
    save_call(tmp_path / "others.npz", network.samples(16))
    found = run(cli, tmp_path, network, "--calib-data", tmp_path / "data.npz", "--eval-data", tmp_path / "others.npz")
    assert found.data.images == 24
    assert found.evaluated_on.images == 16
    assert found.placement.quantized
    assert found.evaluation.outputs.sqnr_db.value > 25


def test_stereo_from_two_folders_of_pictures(cli, tmp_path: Path) -> None:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for index in range(10):
            pixels = np.random.default_rng(index).integers(0, 255, (48, 48, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{index}.png")
    sides = [f"{side}={tmp_path / side}" for side in ("left", "right")]
    found = run(cli, tmp_path, stereo(), "--input", sides[0], "--input", sides[1], "--preprocess", "imagenet")
    assert found.data.images == 10
    assert found.preprocess.words.count("centre crop 32x32") == 2


def test_pictures_and_a_vector(cli, tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    for index in range(10):
        Image.fromarray(np.full((40, 40, 3), 20 * index, np.uint8)).save(tmp_path / "imgs" / f"{index}.png")
    np.save(tmp_path / "state.npy", np.random.default_rng(0).normal(size=(10, 6)))
    found = run(
        cli, tmp_path, image_and_vector(), "--input", f"image={tmp_path / 'imgs'}", "--input",
        f"state={tmp_path / 'state.npy'}",
    )  # fmt: skip
    assert found.data.images == 10


def test_the_items_of_a_program(cli, tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    rng = np.random.default_rng(0)\n"
        "    while True:\n"
        "        yield {'ids': rng.integers(0, 32, (4, 20)), 'mask': np.ones((4, 20), np.float32), 'text': 'a'}\n",
        encoding="utf-8",
    )
    found = run(cli, tmp_path, tokens(), "--calib-data", f"{tmp_path / 'data.py'}:batches", "--max-images", 20)
    assert found.data.images == 20


def test_a_network_without_its_data_is_told_what_is_missing(cli, tmp_path: Path) -> None:
    onnx.save(stereo().model, tmp_path / "m.onnx")
    code, _, error = cli("ptq", tmp_path / "m.onnx", "--calib-dir", tmp_path, "--out", tmp_path / "run")
    assert code == 2
    assert "has 2 inputs (left float32[N, 3, 32, 32], right float32[N, 3, 32, 32])" in error
    code, _, error = cli("ptq", tmp_path / "m.onnx", "--input", f"left={tmp_path}", "--out", tmp_path / "run")
    assert code == 2
    assert "the model also takes 'right', float32[N, 3, 32, 32]; add it" in error
    assert not (tmp_path / "run").exists()


def test_an_input_that_does_not_exist_is_told_of_those_that_do(cli, tmp_path: Path) -> None:
    onnx.save(table().model, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((4, 12), np.float32))
    code, _, error = cli("ptq", tmp_path / "m.onnx", "--input", f"rows={tmp_path / 'x.npy'}")
    assert code == 2
    assert "--input gives rows, but the model also takes 'x', float32[N, 12]" in error


CAPTIONS = """
import numpy as np
import onnxruntime as ort

encoder, decoder = ort.InferenceSession("encoder.onnx"), ort.InferenceSession("decoder.onnx")
rng = np.random.default_rng(0)
for picture in range(12):
    (memory,) = encoder.run(None, {"image": rng.normal(size=(1, 3, 32, 32)).astype(np.float32)})
    ids = [picture]
    for _ in range(4):
        (logits,) = decoder.run(None, {"ids": np.array([ids]), "memory": memory})
        ids.append(int(logits[0, -1].argmax()))
"""


def test_an_encoder_and_a_decoder_by_what_their_program_feeds_them(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, made in (("encoder", encoder()), ("decoder", decoder())):
        onnx.save(made.model, f"{name}.onnx")
    Path("app.py").write_text(CAPTIONS, encoding="utf-8")
    code, out, error = cli("record", "app.py")
    assert code == 0, error
    assert "recorded/decoder: 48 of 48 calls" in out
    for name, samples, layers in (("encoder", 12, {"patches"}), ("decoder", 48, {"query", "wide"})):
        calls = Path("recorded") / name
        code, _, error = cli("ptq", f"{name}.onnx", "--calib-data", calls, "--out", f"run-{name}", "--no-compile")
        assert code == 0, error
        found = PtqRun.load(Path(f"run-{name}") / "run.json")
        assert found.data.images == samples
        assert layers <= set(found.placement.quantized)
        assert found.evaluation.outputs.sqnr_db.value > 25
