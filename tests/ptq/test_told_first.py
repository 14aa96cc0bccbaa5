"""Faults and idle settings are told before the work, not after it."""

from pathlib import Path

# Fault 11: faults of the evaluation come before the work.


def test_a_broken_evaluation_image_is_told_before_anything_runs(cli, home: Path, small_model: Path) -> None:
    from PIL import Image

    for folder in ("good", "evaluation"):
        (home / folder).mkdir()
        for number in range(3):
            Image.new("RGB", (80, 80), (10 * number, 50, 90)).save(home / folder / f"{number}.png")
    (home / "evaluation" / "9.png").write_bytes(b"no picture")
    out = home / "out"
    code, _, error = cli("ptq", small_model, "--calib-dir", home / "good", "--eval-dir", home / "evaluation",
                         "--out", out, "--no-compile")  # fmt: skip
    assert code == 2
    assert "9.png" in error
    assert "Calibrating" not in error
    assert not out.exists()


# Fault 12: what a recipe says and a command does not do.


def test_keys_that_do_nothing_are_told(cli, home: Path) -> None:
    recipe = home / "r.yaml"
    recipe.write_text("seed: 7\ntraining: {epochs: 3}\nevaluation: {latency: false}\n")
    out = home / "new"
    code, _, error = cli("ptq", home / "m.onnx", "--calib-dir", home / "data", "--recipe", recipe, "--out", out,
                         "--no-compile")  # fmt: skip
    assert code == 0, error
    assert "recipe: seed, training do nothing in ptq" in error
    assert "Seed" not in (out / "report.md").read_text()


def test_model_input_preprocessing_and_images_are_told_before_the_first_image(cli, home: Path) -> None:
    code, _, error = cli("ptq", home / "m.onnx", "--calib-dir", home / "data", "--out", home / "new", "--no-compile")
    assert code == 0, error
    told, _, rest = error.partition("Calibrating")
    assert rest
    assert "m.onnx: input x float32[N, 3, 8, 8], 2 of 3 weighted layers get Q/DQ" in told
    assert "Preprocessing: none (arrays are taken as they are stored)" in told
    assert f"Calibration: auto on 8 images, {home / 'data'}" in told
