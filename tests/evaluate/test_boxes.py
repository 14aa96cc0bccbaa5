"""Decoding and suppression against ultralytics' own, on the real output of a trained detector."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datasets.scenes import draw_scene
from quantbench.evaluate.boxes import decode
from quantbench.ort import create_session
from quantbench.qat.safe_load import quiet_ultralytics

MODEL = Path(__file__).parents[1] / "data" / "models" / "digit-detector.onnx"


@pytest.fixture(scope="module")
def output() -> NDArray[np.float32]:
    drawn = np.stack([draw_scene(0, "test", i).image for i in range(16)])
    images = drawn.transpose(0, 3, 1, 2).astype(np.float32) / 255
    found: NDArray[np.float32] = create_session(MODEL).run(None, {"images": images})[0]
    return found


@pytest.mark.parametrize(("confidence", "scenes"), [(0.001, 4), (0.25, 16)])
def test_equals_ultralytics(output: NDArray[np.float32], confidence: float, scenes: int) -> None:
    quiet_ultralytics(trust=False)
    output = output[:scenes]  # theirs takes seconds a scene where nearly every anchor is a candidate
    from ultralytics.utils.nms import non_max_suppression

    theirs = non_max_suppression(
        torch.from_numpy(output), confidence, 0.7, multi_label=True, max_det=300, max_time_img=1e6
    )
    ours = decode(output, confidence)
    assert sum(len(rows) for rows in ours) > 16
    for mine, their in zip(ours, theirs, strict=True):
        assert mine.shape == their.shape
        rows = their.double().numpy()
        # Of equal scores either may come first.
        first, second = (
            np.lexsort((found[:, 0].round(1), found[:, 5], found[:, 4].round(6))) for found in (mine, rows)
        )
        assert np.allclose(mine[first], rows[second], atol=1e-3)


def test_limits_and_coefficients_after_the_classes(output: NDArray[np.float32]) -> None:
    coefficients = np.full((len(output), 3, output.shape[2]), 0.9, np.float32)
    plain, wide = decode(output), decode(np.concatenate([output, coefficients], axis=1), classes=10)
    assert all(np.array_equal(a, b) for a, b in zip(plain, wide, strict=True))
    # 400 boxes that do not touch, all of one score: 300 are kept, the first anchors.
    grid = np.zeros((1, 6, 400), np.float32)
    grid[0, 0], grid[0, 1] = np.divmod(np.arange(400), 20)
    grid[0, 2:4], grid[0, 5] = 0.5, 0.5
    (found,) = decode(grid)
    assert found.shape == (300, 6)
    assert np.array_equal(found[:2], [[-0.25, -0.25, 0.25, 0.25, 0.5, 1], [-0.25, 0.75, 0.25, 1.25, 0.5, 1]])
    assert decode(np.zeros((2, 6, 400), np.float32))[1].shape == (0, 6)


def test_suppression_is_within_a_class() -> None:
    anchors = np.zeros((1, 6, 3), np.float32)
    anchors[0, :4] = [[50, 51, 50], [50, 50, 50], [20, 20, 20], [20, 20, 20]]
    anchors[0, 4] = [0.9, 0.8, 0.0]
    anchors[0, 5] = [0.0, 0.0, 0.7]
    (found,) = decode(anchors)
    assert found[:, 4:].tolist() == [[pytest.approx(0.9), 0], [pytest.approx(0.7), 1]]
