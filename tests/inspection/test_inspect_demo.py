"""The demo model (EfficientNet-Lite0), quantized, compiled by TensorRT-RTX and inspected as a user would type it."""

import gzip
import json
import lzma
import re
from collections import Counter
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner, Result

from quantbench.cli.main import app
from quantbench.errors import QuantbenchError
from quantbench.inspection.compare import compare
from quantbench.inspection.gather import gather
from quantbench.inspection.inspection import Inspection
from quantbench.inspection.page.render import page
from quantbench.inspection.table import rows
from quantbench.inspection.verdicts.judge import judge
from quantbench.inspection.verdicts.verdict import Verdict


@pytest.fixture(scope="session")
def inspection(demo_run: Path) -> Inspection:
    (found,) = gather([demo_run])
    return found


def verdict_of(inspection: Inspection, rule: str) -> Verdict:
    return next(v for v in judge(inspection) if v.rule == rule)


def convs_of_log(log: Path) -> dict[str, tuple[str, str]]:
    """Conv node -> types of input and output, counted from the text of the log alone."""
    found: dict[str, tuple[str, str]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").split("\n"):
        if ", LayerType: correlation, " in line:
            inputs, _, rest = line.partition("Inputs: [")[2].partition("Outputs: [")
            node = line.partition("Metadata: [ONNX Layer: ")[2].partition("]")[0]
            types = [re.findall(r"Datatype: (\w+)", part)[0] for part in (inputs, rest)]
            found[node] = (types[0], types[1])
    return found


def test_the_convs_without_int8_outputs_are_those_of_the_log(inspection: Inspection, demo_run: Path) -> None:
    log = convs_of_log(demo_run / "build.log")
    mixed = {node for node, types in log.items() if types[0] == "Int8" and types[1] in ("Float", "Half")}
    graph = onnx.load(demo_run / "model.qdq.onnx").graph
    convs = {node.name for node in graph.node if node.op_type == "Conv"}
    assert set(log) == convs
    assert len(mixed) == 49
    verdict = verdict_of(inspection, "int8_in_float_out")
    assert {item.name for item in verdict.items} & convs == mixed
    # Besides the convs there is the classifier, a Gemm whose result is the engine's output.
    others = [item.detail for item in verdict.items if item.name not in convs]
    assert all("an output of the engine, which is float" in detail for detail in others)
    assert verdict.title == f"{49 + len(others)} of 50 weighted layers take INT8 and give float"
    assert verdict.severity == "cost"
    assert "TensorRT 8 to 10" in verdict.advice


def test_each_has_the_reason_that_its_own_graph_gives(inspection: Inspection, demo_run: Path) -> None:
    """The Q named is the one that the ONNX graph has behind the conv, and so is the work between them."""
    graph = onnx.load(demo_run / "model.qdq.onnx").graph
    made = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    convs = {node.name for node in graph.node if node.op_type == "Conv"}
    items = verdict_of(inspection, "int8_in_float_out").items
    details = {item.name: item.detail for item in items if item.name in convs}
    assert len(set(details.values())) == 49
    kinds: Counter[tuple[str, ...]] = Counter()
    for name, detail in details.items():
        (node,) = (n for n in graph.node if n.name == name)
        between = []
        while node.op_type != "QuantizeLinear":
            (node,) = readers[node.output[0]]
            between.append(node)
        quantizer = between.pop()
        kinds[tuple(n.op_type for n in between)] += 1
        work = f" together with {', '.join(n.name for n in between)}" if between else ""
        if name == "_conv_head":  # its kernel averages as well
            assert f"its Q ({quantizer.name}" in detail
            assert f"{work}, _conv_head/ReduceMean" in detail
        else:
            kernel = "was compiled into the pointwise kernel behind it"
            assert detail == f"INT8 in, FP32 out: its Q ({quantizer.name}) {kernel}{work}, not into it"
    assert kinds == {("Clip",): 33, ("Add",): 9, (): 7}
    assert made[graph.output[0].name].op_type != "QuantizeLinear"


def test_depthwise_convs_are_padded_with_zeros(inspection: Inspection, demo_run: Path) -> None:
    graph = onnx.load(demo_run / "model.qdq.onnx").graph
    groups = {n.name: a.i for n in graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "group"}
    verdict = verdict_of(inspection, "depthwise")
    assert {item.name for item in verdict.items} == {name for name, group in groups.items() if group > 1}
    assert len(verdict.items) == 16
    assert verdict.items[0].detail == "input of 32 channels written as 128"


def test_the_float_layer_and_every_q_are_told(inspection: Inspection, demo_run: Path) -> None:
    graph = onnx.load(demo_run / "model.qdq.onnx").graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    floats = {node.name for node in weighted if made[node.input[0]] != "DequantizeLinear"}
    told = [i for v in judge(inspection) if v.rule == "float_layers" for i in v.items]
    assert {i.name.split(" + ")[0] for i in told} == floats
    assert all(i.detail == "runs in FP16: no Q/DQ feeds it" for i in told)
    named = {n.name for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert {f.name for f in inspection.fates} == named
    assert {f.status for f in inspection.fates} == {"fused", "kernel"}
    assert verdict_of(inspection, "int8_in_float_out").title in page(inspection)


def test_kernels_are_named_after_what_they_compute(inspection: Inspection) -> None:
    """Myelin lists the convs around a kernel as its nodes too; the table leaves them out."""
    table = rows(inspection)
    weighted = [r.label for r in table if r.category == "convolution"]
    assert len(weighted) == len(set(weighted)) == 49
    labels = {r.label for r in table if r.layer.type == "kgen"}
    assert {"_conv_stem/Clip", "epilogue of _blocks.0._project_conv", "_blocks.2._project_conv/Add"} <= labels
    assert not labels & set(weighted)


def inspect(cli: CliRunner, *words: object) -> Result:
    return cli.invoke(app, ["inspect", *map(str, words), "--json"])


@pytest.mark.parametrize("name", ["lite0.engine", "lite0.build.log", "lite0.layers.json"])
def test_what_a_build_leaves_is_joined_whichever_file_is_named(
    quantbench_cli: CliRunner, demo_engine: Path, name: str
) -> None:
    data = json.loads(inspect(quantbench_cli, demo_engine.with_name(name)).stdout)
    assert data["title"] == "lite0"
    kinds = {"lite0.engine": {"engine", "own-layers", "log"}}.get(name, {"own-layers", "log"})
    assert {s["kind"] for s in data["sources"]} == kinds
    assert data["version"].startswith("RTX 1.")
    text = demo_engine.with_name("lite0.build.log").read_text(encoding="utf-8", errors="replace")
    assert data["summary"]["layers"] == text.count(", LayerType: ") > 90
    assert "int8_in_float_out" in [v["rule"] for v in data["verdicts"]]


@pytest.mark.parametrize("name", ["model.engine", "build.log", "layers.json"])
def test_a_file_of_a_run_brings_the_run(quantbench_cli: CliRunner, demo_run: Path, name: str) -> None:
    data = json.loads(inspect(quantbench_cli, demo_run / name).stdout)
    assert data["title"] == demo_run.name
    assert {"own-layers", "log", "onnx"} <= {s["kind"] for s in data["sources"]}


def test_an_engine_against_a_run(quantbench_cli: CliRunner, demo_engine: Path, demo_run: Path) -> None:
    data = json.loads(inspect(quantbench_cli, demo_engine, demo_run).stdout)
    assert (data["first"], data["second"]) == ("lite0", demo_run.name)
    assert [row["label"] for row in data["rows"]].count("_conv_head") == 1


def test_an_engine_alone_says_how_to_get_its_layers(demo_engine: Path, tmp_path: Path, cli) -> None:
    alone = tmp_path / "alone.engine"
    alone.write_bytes(demo_engine.read_bytes())
    code, _, error = cli("inspect", alone)
    assert code == 2
    assert error.count("\n") == 1
    for word in ("alone.engine", "only the TensorRT that made it", "alone.build.log", "--exportLayerInfo"):
        assert word in error


@pytest.mark.parametrize(("suffix", "packer"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_logs_are_read_as_they_are(demo_run: Path, tmp_path: Path, suffix: str, packer) -> None:
    plain = (demo_run / "build.log").read_bytes()
    (tmp_path / f"demo.log{suffix}").write_bytes(packer(plain))
    (tmp_path / "demo.log").write_bytes(plain)
    packed, bare = (gather([tmp_path / name])[0] for name in (f"demo.log{suffix}", "demo.log"))
    assert packed.log is not None
    assert bare.log is not None
    assert packed.log.kinds == bare.log.kinds
    assert packed.layers == bare.layers
    assert (packed.title, bare.title) == ("demo", "demo")


@pytest.mark.parametrize(("suffix", "packer"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_cut_off_archive_gives_its_head(demo_run: Path, tmp_path: Path, suffix: str, packer) -> None:
    packed = packer((demo_run / "build.log").read_bytes())
    path = tmp_path / f"cut.log{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    (found,) = gather([path])
    assert found.log is not None
    assert 1000 < found.log.lines < 8000
    assert found.layers == ()
    assert verdict_of(found, "cut_off").severity == "note"


def test_compressed_json_and_other_archives(demo_run: Path, tmp_path: Path) -> None:
    layers = tmp_path / "x.layers.json.gz"
    layers.write_bytes(gzip.compress((demo_run / "layers.json").read_bytes()))
    assert gather([layers])[0].layers == gather([demo_run / "layers.json"], siblings=False)[0].layers
    zstd = tmp_path / "x.log.zst"
    zstd.write_bytes(b"\x28\xb5\x2f\xfd" + b"abcdef")
    with pytest.raises(QuantbenchError, match=r"zstd -d .*x\.log\.zst"):
        gather([zstd])
    packed = layers.read_bytes()
    layers.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(QuantbenchError, match="cut off"):
        gather([layers])
    layers.write_bytes(b"\x1f\x8b" + b"not really gzip at all")
    with pytest.raises(QuantbenchError, match="damaged"):
        gather([layers])


@pytest.fixture(scope="session")
def cpu_engines(quantbench_cli: CliRunner, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`quantbench build --backend onnxruntime` of the model for TensorRT and of the one for onnxruntime."""
    folder = tmp_path_factory.mktemp("cpu")
    found = {}
    for name in ("model.qdq.onnx", "model.ort.onnx"):
        found[name] = folder / f"{name.split('.')[1]}.ort.onnx"
        words = ["build", demo_run / name, "--backend", "onnxruntime", "--out", found[name]]
        done = quantbench_cli.invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, (done.output, done.exception)
    return found


@pytest.mark.parametrize("name", ["model.qdq.onnx", "model.ort.onnx"])
def test_an_onnxruntime_engine_tells_which_layers_it_computes_in_float(cpu_engines: dict[str, Path], name: str) -> None:
    graph = onnx.load(cpu_engines[name]).graph
    ops = Counter(node.op_type for node in graph.node)
    in_float = ops["FusedConv"] + ops["Conv"] + ops["Gemm"]
    assert ops["QLinearConv"] + ops["QLinearMatMul"] + ops["QGemm"] + in_float == 50
    (found,) = gather([cpu_engines[name]])
    verdict = verdict_of(found, "float_layers")
    assert len(verdict.items) == in_float
    assert ("model.ort.onnx" if in_float > 25 else "--for-onnxruntime") in verdict.advice
    constants = {i.name for i in graph.initializer}
    for node in graph.node:
        if all(tensor in constants for tensor in node.input):
            constants |= set(node.output)
    alone = [
        node.name
        for node in graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in constants
    ]
    assert sorted(i.name for i in verdict_of(found, "leftover_qdq").items) == sorted(alone)
    assert {f.status for f in found.fates} == {"left over"}
    assert len(found.fates) == len(alone)


def test_the_two_onnxruntime_engines_side_by_side(cpu_engines: dict[str, Path]) -> None:
    comparison = compare(*gather(list(cpu_engines.values())))
    assert "compute in INT8 instead of float" in "\n".join(comparison.reasons)
