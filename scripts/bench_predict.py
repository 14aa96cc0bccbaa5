"""Time of a prediction: `python scripts/bench_predict.py MODEL.qdq.onnx ...`; seconds, the best of three."""

import sys
import time
from pathlib import Path

from quantbench.graph.load import load_model
from quantbench.graph.normalise import normalise
from quantbench.predict.simulate import predict_model


def main(paths: list[str]) -> None:
    """Print nodes, layers and seconds for each model."""
    for path in paths:
        model = normalise(load_model(Path(path)))
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            prediction = predict_model(model)
            seconds.append(time.perf_counter() - started)
        print(f"{path}: {len(model.graph.node)} nodes, {len(prediction.layers)} layers, {min(seconds):.3f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
