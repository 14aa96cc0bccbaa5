"""Files of Nsight Systems: reports as CSV and as text, the SQLite export; kernels go to layers by name and order."""

import json
import sqlite3
from pathlib import Path

import pytest

from quantbench.errors import QuantbenchError
from quantbench.inspection.gather import gather
from quantbench.inspection.nsys.join import layer_times
from quantbench.inspection.nsys.read import read_nsys
from quantbench.inspection.nsys.trace import Kernel, Trace
from quantbench.layers.layer import Layer

CONV = "sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32_tilesize128x64x64_stage4_g1_tensor16x8x32_simple_t1r1s1"
COPY = "void genericReformat::copyVectorizedKernel<double, float, __half>(unsigned int, void const *)"
LAYERS = (
    Layer("reformat", "Reformat", tactic="0x3e8"), Layer("conv1 + relu1", "Conv", tactic=CONV),
    Layer("conv2", "Conv", tactic=CONV), Layer("myl", "Myelin", tactic="__myl_MulAdd_myl0_1"),
)  # fmt: skip
SUMS = f"""Processing [x.sqlite] with [reports/cuda_gpu_kern_sum.py]...
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Name
80.0,800000,20,40000.0,40000.0,1,2,0.0,{CONV}_kernel_trt
15.0,150000,10,15000.0,15000.0,1,2,0.0,__myl_MulAdd_myl0_1
5.0,50000,10,5000.0,5000.0,1,2,0.0,"{COPY}"

Processing [x.sqlite] with [reports/cuda_gpu_mem_time_sum.py]...
Time (%),Total Time (ns),Count,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Operation
60.0,60000,10,6000.0,6000.0,1,2,0.0,[CUDA memcpy HtoD]
40.0,40000,10,4000.0,4000.0,1,2,0.0,[CUDA memcpy DtoH]

Processing [x.sqlite] with [reports/cuda_gpu_mem_size_sum.py]...
Total (MB),Count,Avg (MB),Med (MB),Min (MB),Max (MB),StdDev (MB),Operation
6.021,10,0.602,0.602,0.602,0.602,0.000,[CUDA memcpy HtoD]
"""
TEXT = f"""
 ** CUDA GPU Kernel Summary (cuda_gpu_kern_sum):

 Time (%)  Total Time (ns)  Instances  Avg (ns)   Name
 --------  ---------------  ---------  --------  ---------------------------------------
     80.0        1,800,000         20  90,000.0  {CONV}_kernel_trt
     20.0          450,000         10  45,000.0  __myl_MulAdd_myl0_1

 ** CUDA GPU MemOps Summary (by Time) (cuda_gpu_mem_time_sum):

 Time (%)  Total Time (ns)  Count  Avg (ns)      Operation
 --------  ---------------  -----  --------  ------------------
    100.0           60,000     10   6,000.0  [CUDA memcpy HtoD]
"""
TRACE = """Start (us),Duration (us),CorrId,GrdX,GrdY,GrdZ,BlkX,BlkY,BlkZ,Reg/Trd,Bytes (MB),Strm,Name
10.0,1.5,1,,,,,,,,0.602,7,[CUDA memcpy HtoD]
{launches}
"""


def _trace() -> str:
    names = (COPY, f"{CONV}_kernel_trt", f"{CONV}_kernel_trt", "__myl_MulAdd_myl0_1")
    rows = [
        f'{20 + 100 * call + 10 * i},{[5, 40, 60, 15][i]},{call},1,1,1,128,1,1,64,,7,"{name}"'
        for call in range(3)
        for i, name in enumerate(names)
    ]
    return TRACE.format(launches="\n".join(reversed(rows)))


def _file(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_sums_go_to_layers_by_name(tmp_path: Path) -> None:
    trace = read_nsys(_file(tmp_path, "a.csv", SUMS))
    assert [(k.name[:6], k.count, round(k.total_ms, 6)) for k in trace.kernels] == [
        ("sm80_x", 20, 0.8), ("__myl_", 10, 0.15), ("void g", 10, 0.05),
    ]  # fmt: skip
    assert [(c.kind, c.count, round(c.total_ms, 6), c.megabytes) for c in trace.copies] == [
        ("memcpy HtoD", 10, 0.06, 6.021), ("memcpy DtoH", 10, 0.04, 0.0),
    ]  # fmt: skip
    profile, (note,) = layer_times(LAYERS, trace)
    assert profile.iterations == 10
    assert {row.name: round(row.mean_ms, 6) for row in profile.rows} == {
        "conv1 + relu1": 0.04, "conv2": 0.04, "myl": 0.015,
    }  # fmt: skip
    assert "kernels of 3 of 4 layers were found by name" in note
    assert "5.0 % of the kernels' time belongs to no layer" in note


def test_the_text_of_the_same_reports(tmp_path: Path) -> None:
    trace = read_nsys(_file(tmp_path, "a.txt", TEXT))
    assert [(k.count, round(k.total_ms, 6)) for k in trace.kernels] == [(20, 1.8), (10, 0.45)]
    assert trace.kernels[0].name == f"{CONV}_kernel_trt"
    assert trace.copies[0].count == 10


def test_launches_go_to_layers_by_name_and_order(tmp_path: Path) -> None:
    """Two layers have one kernel: the first launch of a call is the first layer's."""
    trace = read_nsys(_file(tmp_path, "a.csv", _trace()))
    assert (len(trace.kernels), trace.in_order) == (12, True)
    assert trace.kernels[0].name == COPY
    assert trace.copies[0].megabytes == 0.602
    profile, (note,) = layer_times(LAYERS, trace)
    assert profile.iterations == 3
    assert {row.name: round(row.mean_ms, 6) for row in profile.rows} == {
        "conv1 + relu1": 0.04, "conv2": 0.06, "myl": 0.015,
    }  # fmt: skip
    assert "by name and order" in note


def test_ranges_name_layers_whatever_the_kernels_are_called() -> None:
    kernels = (Kernel("a", 2.0, 2, "TensorRT:conv1 + relu1"), Kernel("b", 4.0, 2, "TensorRT:conv2"), Kernel("c", 1.0))
    profile, (note,) = layer_times(LAYERS, Trace(kernels))
    assert {row.name: row.mean_ms for row in profile.rows} == {"conv1 + relu1": 1.0, "conv2": 2.0}
    assert "by NVTX ranges" in note


def _sqlite(path: Path) -> Path:
    base = sqlite3.connect(path)
    base.executescript("""
        create table StringIds (id integer primary key, value text);
        create table CUPTI_ACTIVITY_KIND_KERNEL (start int, end int, correlationId int, demangledName int);
        create table CUPTI_ACTIVITY_KIND_RUNTIME (start int, end int, globalTid int, correlationId int);
        create table CUPTI_ACTIVITY_KIND_MEMCPY (start int, end int, bytes int, copyKind int);
        create table NVTX_EVENTS (start int, end int, text text, textId int, globalTid int);
        insert into StringIds values (1, 'gemm'), (2, 'pointwise'), (3, 'TensorRT:conv1 + relu1');
        insert into CUPTI_ACTIVITY_KIND_KERNEL values (5000, 7000, 11, 1), (1000, 4000, 10, 2), (9000, 9500, 12, 2);
        insert into CUPTI_ACTIVITY_KIND_RUNTIME values (100, 110, 1, 10), (200, 210, 1, 11), (900, 910, 1, 12);
        insert into CUPTI_ACTIVITY_KIND_MEMCPY values (0, 500, 2000000, 1);
        insert into NVTX_EVENTS values
            (0, 500, 'batch', null, 1), (50, 150, null, 3, 1), (150, 300, 'TensorRT:conv2', null, 1);
    """)
    base.commit()
    base.close()
    return path


def test_the_sqlite_export_joins_launches_with_ranges(tmp_path: Path) -> None:
    trace = read_nsys(_sqlite(tmp_path / "x.sqlite"))
    assert [(k.name, round(k.total_ms, 6), k.range) for k in trace.kernels] == [
        ("pointwise", 0.003, "TensorRT:conv1 + relu1"), ("gemm", 0.002, "TensorRT:conv2"), ("pointwise", 0.0005, ""),
    ]  # fmt: skip
    assert [(c.kind, c.megabytes) for c in trace.copies] == [("memcpy HtoD", 2.0)]
    (tmp_path / "bad.sqlite").write_bytes(b"SQLite format 3\0junk")
    sqlite3.connect(tmp_path / "other.sqlite").execute("create table a (b int)")
    for name, message in (("bad.sqlite", "cannot be read"), ("other.sqlite", "is no export of nsys")):
        with pytest.raises(QuantbenchError, match=message):
            read_nsys(tmp_path / name)


def test_inspect_joins_the_files_of_an_engine(cli, tmp_path: Path) -> None:
    layers = [
        {"Name": layer.name, "LayerType": layer.type, "TacticName": layer.tactic, "Inputs": [], "Outputs": []}
        for layer in LAYERS
    ]
    info = _file(tmp_path, "m.layers.json", json.dumps({"Layers": layers, "Bindings": []}))
    sums = _file(tmp_path, "m.csv", _trace())
    (found,) = gather([info, sums])
    assert [layer.time_ms and round(layer.time_ms, 6) for layer in found.layers] == [None, 0.04, 0.06, 0.015]
    code, out, err = cli("inspect", info, sums)
    assert code == 0, err
    assert "kernels of 3 of 4 layers were found by name and order" in out
    code, out, err = cli("inspect", _file(tmp_path, "only.txt", TEXT))
    assert code == 0, err
    assert "30 launches of 2 kernels" in out
