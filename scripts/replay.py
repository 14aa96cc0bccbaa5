"""Replay placement, prediction and lint over a corpus of networks, and show what a change makes of them.

    python scripts/replay.py              what differs from the last commit (working tree, or HEAD from its parent)
    python scripts/replay.py --since REF  from another commit
    python scripts/replay.py --show       today's text itself

The corpus: the networks of tests/data/models, ResNet-18s, and random networks made here. The networks are the same on
both sides, so a line of the diff is a decision that changed. Exit code 0 always: a difference is to be read, not fixed.
"""

import argparse
import difflib
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
RANDOM_NETWORKS = 20
_SHOWN_LINES = 400


def corpus() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Name and float model (those that hold Q/DQ are only predicted and linted)."""
    from quantbench.demo import resnet18

    yield "resnet18", resnet18.build(batch=1, width=8, size=32, classes=10)
    for path in sorted((ROOT / "tests" / "data" / "models").glob("*.onnx")):
        yield path.stem, onnx.load(str(path))
    for seed in range(RANDOM_NETWORKS):
        yield f"random-{seed:02}", random_network(seed)


def random_network(seed: int) -> onnx.ModelProto:
    """A network of 4 to 16 blocks that trained networks have: convs, skips, concats, gates, attention, heads."""
    return _Builder(random.Random(seed)).build()


class _Builder:
    """Nodes of a random network; every activation is [1, C, H, W] until the head."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, int]] = {"x": (3, 16)}

    def build(self) -> onnx.ModelProto:
        """The model: a stem, blocks on what came before, one to three heads."""
        dice = self.dice
        last = self.conv("x", 16)
        for _ in range(dice.randint(4, 16)):
            block = dice.choice([self.plain, self.skip, self.joined, self.gated, self.depthwise, self.moved])
            last = block(last)
        outputs = [dice.choice([self.dense, self.mapped, self.pooled])(last) for _ in range(dice.randint(1, 3))]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])
        graph = helper.make_graph(self.nodes, "random", [entry], values, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)

    def node(self, op: str, inputs: list[str], channels: int, size: int, **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.shapes[name] = (channels, size)
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = np.random.default_rng(len(self.weights)).normal(0, 0.1, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, *values: int) -> str:
        name = f"i{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def conv(self, x: str, channels: int, kernel: int = 3, group: int = 1) -> str:
        before, size = self.shapes[x]
        weight = self.weight(channels, before // group, kernel, kernel)
        pads = [kernel // 2] * 4
        y = self.node("Conv", [x, weight, self.weight(channels)], channels, size, pads=pads, group=group)
        return self.activated(y)

    def activated(self, x: str) -> str:
        shape = self.shapes[x]
        kind = self.dice.choice(["", "Relu", "Relu", "LeakyRelu", "HardSwish", "silu", "Clip"])
        if kind == "silu":
            return self.node("Mul", [x, self.node("Sigmoid", [x], *shape)], *shape)
        return self.node(kind, [x], *shape) if kind else x

    def plain(self, x: str) -> str:
        return self.conv(x, self.dice.choice([4, 8, 16, 24]), self.dice.choice([1, 3]))

    def skip(self, x: str) -> str:
        channels, size = self.shapes[x]
        branch = self.conv(self.conv(x, channels), channels)
        other = self.conv(x, channels, 1) if self.dice.random() < 0.3 else x
        return self.activated(self.node("Add", [branch, other], channels, size))

    def joined(self, x: str) -> str:
        first, second = self.conv(x, 8), self.conv(x, 16, 1)
        return self.conv(self.node("Concat", [first, second], 24, self.shapes[x][1], axis=1), 16, 1)

    def gated(self, x: str) -> str:
        channels, size = self.shapes[x]
        pooled = self.node("GlobalAveragePool", [x], channels, 1)
        squeezed = self.node("Relu", [self.node("Conv", [pooled, self.weight(8, channels, 1, 1)], 8, 1)], 8, 1)
        gate = self.node("Conv", [squeezed, self.weight(channels, 8, 1, 1)], channels, 1)
        return self.node("Mul", [x, self.node("Sigmoid", [gate], channels, 1)], channels, size)

    def depthwise(self, x: str) -> str:
        channels = self.shapes[x][0]
        return self.conv(self.conv(x, channels, 3, channels), 16, 1)

    def moved(self, x: str) -> str:
        channels, size = self.shapes[x]
        if size > 2 and self.dice.random() < 0.5:
            kind = self.dice.choice(["MaxPool", "AveragePool"])
            return self.node(kind, [x], channels, size // 2, kernel_shape=[2, 2], strides=[2, 2])
        ends = [self.integers(v) for v in (0, channels // 2, 1)]
        half = self.node("Slice", [x, *ends], channels // 2, size)
        return self.node("Concat", [half, x], channels // 2 + channels, size, axis=1)

    def pooled(self, x: str) -> str:
        channels = self.shapes[x][0]
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [x], channels, 1)], channels, 1)
        return self.node("Gemm", [flat, self.weight(channels, 12)], 12, 1)

    def mapped(self, x: str) -> str:
        return self.conv(x, self.dice.choice([2, 12]), 1)

    def dense(self, x: str) -> str:
        channels, size = self.shapes[x]
        rows = self.node("Reshape", [x, self.integers(1, channels, size * size)], channels, size * size)
        tokens = self.node("Transpose", [rows], channels, size * size, perm=[0, 2, 1])
        query, key = (self.node("MatMul", [tokens, self.weight(channels, 16)], 16, size * size) for _ in range(2))
        turned = self.node("Transpose", [key], 16, size * size, perm=[0, 2, 1])
        scores = self.node("Softmax", [self.node("MatMul", [query, turned], 16, size * size)], 16, size * size, axis=-1)
        return self.node("MatMul", [scores, tokens], channels, size * size)


def texts() -> Iterator[tuple[str, list[str]]]:
    """Each network's plan, prediction and findings, by the quantbench that is on the path."""
    from quantbench.calibration.ranges import Ranges, TensorRange
    from quantbench.graph.normalise import normalise
    from quantbench.graph.onnx_view import view_of
    from quantbench.lint.run import lint
    from quantbench.predict.simulate import predict_model
    from quantbench.qdq.insert import insert_qdq
    from quantbench.qdq.place import place
    from quantbench.qdq.plan_text import plan_lines

    for name, model in corpus():
        model = normalise(model)
        lines = []
        # Spelled out: an older quantbench may be on the path.
        if not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
            plan = place(view_of(model))
            lines += [f"plan: {line}" for line in plan_lines(plan)]
            ranges = {tensor: TensorRange(1.0 + i / 7) for i, tensor in enumerate(plan.tensors)}
            model = normalise(insert_qdq(model, plan, Ranges(ranges)))
        found = predict_model(model)
        for layer in found.layers:
            kinds = "/".join(dict.fromkeys(t.dtype for t in (*layer.inputs, *layer.outputs)))
            lines.append(f"predict: {layer.name} [{layer.type}] {kinds}")
        lines += [f"predict: {fate.name}: {fate.status}" for fate in found.fates if fate.status == "left over"]
        lines += [f"lint: {finding.line()}" for finding in lint(model)]
        yield name, lines


def shown(path: Path) -> str:
    """The whole text by the package under `path`, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--show"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=path, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
    return done.stdout


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout


def base(since: str) -> str:
    """The commit to compare with: `since`, else HEAD where the package has changes that are not committed, else its
    parent."""
    changed = _git("status", "--porcelain", "--", "quantbench").strip()
    return since or ("HEAD" if changed else "HEAD^")


def main() -> None:
    """Print the text, or the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", default="", help="commit to compare with")
    parser.add_argument("--show", action="store_true", help="print today's text")
    given = parser.parse_args()
    if given.show:
        for name, lines in texts():
            print(f"== {name}", *lines, sep="\n")
        return
    try:
        reference = base(given.since)
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fileobj=BytesIO(_git("archive", reference, "quantbench"))) as archive:
                archive.extractall(folder, filter="data")
            before = shown(Path(folder))
    except (subprocess.CalledProcessError, FileNotFoundError, RuntimeError) as error:
        print(f"replay: no earlier commit to compare with ({str(error)[:200]})")
        return
    print_difference(before, shown(ROOT), reference)


def print_difference(before: str, after: str, reference: str) -> None:
    """What changed, network by network, then a line of counts."""
    old, new = (_sections(text) for text in (before, after))
    changed, printed = 0, 0
    for name in dict.fromkeys([*old, *new]):
        lines = list(difflib.unified_diff(old.get(name, []), new.get(name, []), lineterm="", n=0))[2:]
        changed += bool(lines)
        for line in (f"== {name}", *(line for line in lines if not line.startswith("@@"))) if lines else ():
            if printed < _SHOWN_LINES:
                print(line)
            printed += 1
    if printed > _SHOWN_LINES:
        print(f"... {printed - _SHOWN_LINES} more lines")
    print(f"replay: {changed} of {len(new)} networks differ from {reference}")


def _sections(text: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            found[line[3:]] = []
        else:
            found[next(reversed(found))].append(line)
    return found


if __name__ == "__main__":
    main()
