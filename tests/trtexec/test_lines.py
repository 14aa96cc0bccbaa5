"""trtexec's command lines as they stand in public threads (written again, with other names): none is lost in silence.

Each: the thread, the line, what our commands must hold, flags of which something is said (changed or lost).
"""

# ruff: noqa: E501

import re
import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from quantbench.cli.main import app, register_commands
from quantbench.trtexec.flags import FLAGS
from quantbench.trtexec.read import commands, translate

# ruff: noqa: E501
T, OPEN, M = "NVIDIA/TensorRT#", "onnx/onnx-tensorrt#", "NVIDIA/Model-Optimizer#"
LINES: tuple[tuple[str, str, str, str], ...] = (
    (M + "50", "trtexec --onnx=y-calib.onnx  --fp16 --int8 --saveEngine=y.engine --warmUp=500 --duration=10 --useCudaGraph "
     "--useSpinWait --noDataTransfers", "build y-calib.onnx --out y.engine --precision fp16,int8; bench y.engine --warm-up 0.5 "
     "--duration 10 --cuda-graph --spin-wait --no-data-transfers", "int8"),
    (M + "10", "$ trtexec --onnx=m-int8.onnx --saveEngine=m-int8.engine --int8", "build m-int8.onnx --out m-int8.engine "
     "--precision int8", "int8"),
    (T + "1461", "/opt/tensorrt/bin/trtexec --explicitBatch --onnx=r18.onnx --saveEngine=r18.engine --int8 --workspace=4096",
     "--pool workspace=4096M --precision int8", "int8"),
    (T + "3040", "/home/u/TensorRT-8.6.1.6/bin/trtexec --onnx=mb_ptq.onnx --int8 --saveEngine=mb_ptq.trt --verbose",
     "build mb_ptq.onnx --out mb_ptq.trt", "int8"),
    (T + "462", "./trtexec --onnx=/home/u/Downloads/m.onnx --explicitBatch", "build /home/u/Downloads/m.onnx --out "
     "/home/u/Downloads/m.engine; bench", ""),
    (OPEN + "633", "trtexec --onnx=/w/frcnn_opset11.onnx --explicitBatch", "build /w/frcnn_opset11.onnx", ""),
    (T + "2361", "&&&& FAILED TensorRT.trtexec [TensorRT v8403] # trtexec --onnx=pq.onnx --tacticSources=-cublasLt,+cublas "
     "--workspace=2048 --int8 --saveEngine=x.engine --verbose", "--tactic-sources -CUBLAS_LT,+CUBLAS --pool workspace=2048M",
     "int8"),
    (T + "620", "trtexec --onnx=y5s.onnx --explicitBatch --saveEngine=y5.engine --workspace=4096 --fp16",
     "--pool workspace=4096M --precision fp16", ""),
    (OPEN + "895", "trtexec --onnx=model.onnx --saveEngine=model.plan", "build model.onnx --out model.plan; bench model.plan", ""),
    (T + "1931", "trtexec --onnx=model.onnx --int8 --calib=model_calibration.cache", "--ranges model_calibration.cache "
     "--precision int8", ""),
    (T + "3430", "trtexec --onnx=t.onnx --calib=t_minmax.cache  --saveEngine=d.trt ", "--out d.trt --ranges t_minmax.cache "
     "--precision int8", ""),
    (T + "3734", r"&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # 'C:\Program Files\TensorRT-8.6.1.6\bin\trtexec.exe' "
     "--onnx=out.onnx --saveEngine=r.trt --explicitBatch", "build out.onnx --out r.trt", ""),
    (OPEN + "800", "trtexec --onnx=/m/f.onnx --fp16 --workspace=64 --buildOnly --saveEngine=/m/f.trt", "build /m/f.onnx --out "
     "/m/f.trt --pool workspace=64M --precision fp16", ""),
    ("NVIDIA-AI-IOT/jetson_dla_tutorial#3", "trtexec --onnx=t.onnx --saveEngine=t.engine --exportProfile=gn.json --fp16 "
     "--useDLACore=0 --allowGPUFallback --useSpinWait --separateProfileRun > gn.log ", "--dla-core 0 --gpu-fallback "
     "--precision fp16; bench t.engine --profile gn.json --spin-wait", ""),
    (T + "4228", "trtexec --stronglyTyped --weightStreamingBudget=1 --onnx=b.onnx  --allowWeightStreaming --fp16",
     "--strongly-typed --precision fp16", "weightStreamingBudget allowWeightStreaming"),
    (T + "2577", "trtexec --onnx=d.onnx --shapes=input_ids:1x10,attention_mask:1x10 --verbose --dumpProfile "
     "--profilingVerbosity=detailed > log.txt", "build d.onnx --out d.engine --shapes input_ids=1x10,attention_mask=1x10; "
     "bench d.engine --profile d.profile.json --shapes input_ids=1x10,attention_mask=1x10", "dumpProfile"),
    (T + "2350", "trtexec --onnx=model.onnx --verbose > log.txt", "build model.onnx", ""),
    (T + "795", "$ trtexec --onnx=m/y3.onnx --saveEngine=/w/o.trt --int8 --verbose", "build m/y3.onnx --out /w/o.trt", "int8"),
    ("w111liang222/lidar-slam-detection#64", "/usr/src/tensorrt/bin/trtexec --onnx=i/rpn.onnx --saveEngine=i/rpn.trt "
     "--memPoolSize=workspace:4096 --fp16 --inputIOFormats=fp16:chw --verbose --dumpLayerInfo --dumpProfile "
     "--separateProfileRun --profilingVerbosity=detailed", "--pool workspace=4096M --precision fp16; bench i/rpn.trt --profile "
     "i/rpn.profile.json", "inputIOFormats dumpLayerInfo dumpProfile"),
    ("DDTRobot/tita_rl_sim2sim2real#7", "/usr/src/tensorrt/bin/trtexec --onnx=test.onnx --saveEngine=gn.engine", "build", ""),
    ("Hale423/CenterPoint#3", "$ trtexec --onnx=pfe.onnx --workspace=16384 --saveEngine=pfe_fp16.engine",
     "--pool workspace=16384M", ""),
    ("PaddlePaddle/PaddleDetection#7399", "trtexec --onnx=o/p.onnx --saveEngine=p.engine", "build o/p.onnx --out p.engine", ""),
    (T + "2774", "./trtexec --onnx=quant_sim.onnx --int8 --saveEngine=quant_sim.engine --verbose", "--precision int8", "int8"),
    (T + "2177", "`trtexec --onnx=voxel.onnx --saveEngine=voxel.rt`", "build voxel.onnx --out voxel.rt", ""),
    (T + "3422", "trtexec --verbose --nvtxMode=verbose --buildOnly --workspace=8192 --onnx=m.onnx --saveEngine=m.onnx.engine "
     "--timingCacheFile=./timing.cache --int8", "--timing-cache . --pool workspace=8192M", "nvtxMode timingCacheFile int8"),
    (T + "1301", "/usr/src/tensorrt/bin/trtexec --loadEngine=g.trt --useDLACore=0 --fp16 --allowGPUFallback", "bench g.trt", ""),
    (OPEN + "763", "/usr/src/tensorrt/bin/trtexec --explicitBatch --onnx=model.onnx --minShapes=input:1x1x1539 "
     "--optShapes=input:1x200x1539 --maxShapes=input:1x500x1539 --shapes=input:1x250x1539 --verbose", "--shapes "
     "input=1x1x1539:1x200x1539:1x500x1539; bench model.engine --shapes input=1x250x1539", ""),
    (T + "1648", "trtexec --onnx=model.onnx --minShapes=input1:2x120x120,input2:120 --optShapes=input1:2x150x120,input2:150 "
     "--maxShapes=input1:2x200x120,input2:200 ", "--shapes input1=2x120x120:2x150x120:2x200x120,input2=120:150:200", ""),
    (T + "163", "./trtexec --onnx=model.onnx --explicitBatch --minShapes=input:1x3x244x244 --optShapes=input:16x3x244x244 "
     "--maxShapes=input:32x3x244x244 --shapes=input:5x3x244x244", "bench model.engine --shapes input=5x3x244x244", ""),
    (T + "2043", "$ trtexec --onnx=r18-v1-7.onnx --explicitBatch --int8 --allowGPUFallback --useDLACore=1 --workspace=2048 "
     "--shapes=data:1x3x224x224", "--gpu-fallback --dla-core 1 --pool workspace=2048M --shapes data=1x3x224x224", "int8"),
    (T + "4349", "trtexec --onnx=v8n.onnx --int8 --infStreams=12", "bench v8n.engine --streams 12", "int8"),
    (T + "2324", "trtexec --onnx=enc.onnx \\\n--saveEngine=enc.trt \\\n--minShapes=audio:[1,80,1],length:[1] \\\n"
     "—optShapes=audio:[1,80,1000],length:[1] \\\n—maxShapes=audio:[1,80,10000],length:[1] ", "--shapes "
     "audio=1x80x1:1x80x1000:1x80x10000,length=1:1:1", ""),
    (T + "2087", "trtexec --onnx=m.onnx --fp16 --precisionConstraints=obey --layerPrecisions=a:fp32,b/c:fp16,d:0:fp32 "
     "--saveEngine=m.engine", "--precision-constraints obey --layer-precision a=fp32 --layer-precision b/c=fp16 "
     "--layer-precision d:0=fp32 --precision fp16", ""),
    ("junhong-3dv/s2m2#29", "trtexec --onnx=s.onnx --fp16 --precisionConstraints=obey "
     "--layerPrecisions=node_linalg_vector_norm_2:fp32", "--layer-precision node_linalg_vector_norm_2=fp32", ""),
    (T + "4645", 'trtexec.exe \\\n  --onnx="p/model.onnx" \\\n  --saveEngine="m_fp32.trt" \\\n  --noTF32 \\\n  '
     "--profilingVerbosity=detailed", "build p/model.onnx --out m_fp32.trt --precision fp32", "noTF32"),
    (T + "4036", "(py3.8) PS C:\\m> trtexec --loadEngine=fm_fp16.engine --shapes=ref_y:1x128x100x160,c1:1x48x1600x2560",
     "bench fm_fp16.engine --shapes ref_y=1x128x100x160,c1=1x48x1600x2560", ""),
    (T + "4099", "trtexec --loadEngine=/m/flash.trt --staticPlugins=/m/libp.so --setPluginsToSerialize --device=1 --fp16 "
     "--noDataTransfers --useCudaGraph --useSpinWait=true --profilingVerbosity=detailed --verbose --separateProfileRun "
     "--dumpLayerInfo --exportProfile=f.json --exportLayerInfo=l.json", "CUDA_VISIBLE_DEVICES=1; bench /m/flash.trt --plugin "
     "/m/libp.so --no-data-transfers --cuda-graph --spin-wait --profile f.json", "dumpLayerInfo exportLayerInfo"),
    ("NVIDIA/Model-Optimizer#2467", "trtexec --onnx=m.onnx --skipInference --warmUp=0 --duration=0 --iterations=50",
     "build m.onnx", "skipInference"),
    ("ultralytics/ultralytics#14999", "/usr/src/tensorrt/bin/trtexec --onnx=v8n.onnx --saveEngine=v8n.engine --int8 "
     "--useDLACore=0", "--dla-core 0 --precision int8", "int8"),
    ("ultralytics/ultralytics#14121", "./trtexec --onnx=/h/best.onnx --saveEngine=/h/best1.engine --int8 --calib=/h/best.cache",
     "--ranges /h/best.cache --precision int8", ""),
    (T + "828", "/usr/src/tensorrt/bin/trtexec --onnx=y4t.onnx --int8 --useDLACore=0 --allowGPUFallback --workspace=512 "
     "2>&1 | tee dla.log", "--dla-core 0 --gpu-fallback --pool workspace=512M", "int8"),
    ("AmusementClub/vs-mlrt#167", "trtexec --onnx=v.onnx --builderOptimizationLevel=5 --sparsity=enable "
     "--tacticSources=+EDGE_MASK_CONVOLUTIONS,-JIT_CONVOLUTIONS --maxAuxStreams=0 --infStreams=2 --saveEngine=v.engine",
     "--optimization-level 5 --sparsity --tactic-sources +EDGE_MASK_CONVOLUTIONS,-JIT_CONVOLUTIONS --aux-streams 0; bench "
     "v.engine --streams 2", ""),
    ("ultralytics/ultralytics#22224", "trtexec --onnx=y26n.onnx --hardwareCompatibilityLevel=ampere+ --versionCompatible "
     "--excludeLeanRuntime --saveEngine=y26n.engine", "--hardware-compatible ampere_plus --version-compatible "
     "--exclude-lean-runtime", ""),
    ("NVIDIA-AI-IOT/cuDLA-samples#34", "/usr/src/tensorrt/bin/trtexec --minShapes=images:1x3x672x672 "
     "--maxShapes=images:1x3x672x672 --optShapes=images:1x3x672x672 --onnx=y.onnx --useDLACore=0 --buildDLAStandalone "
     "--saveEngine=y.bin --inputIOFormats=int8:dla_hwc4 --outputIOFormats=fp16:chw16 --int8 --fp16 --calib=y.cache "
     "--precisionConstraints=obey --layerPrecisions='/m/C:fp16,/n/C:fp16'", "--shapes "
     "images=1x3x672x672:1x3x672x672:1x3x672x672 --dla-core 0 --layer-precision /m/C=fp16 --layer-precision /n/C=fp16 "
     "--ranges y.cache", "buildDLAStandalone inputIOFormats outputIOFormats"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("thread", "line", "holds", "said"), LINES, ids=[f"{n}-{row[0]}" for n, row in enumerate(LINES)]
)
def test_a_line_of_a_public_thread(thread: str, line: str, holds: str, said: str) -> None:
    text = line.strip("`").removeprefix("(py3.8) PS C:\\m> ")
    found = translate(text)
    ours = " ".join(shlex.join(words) for words in commands(found)) + " " + " ".join(found.environment)
    for piece in holds.split("; "):
        for part in re.split(r" (?=--|CUDA)", piece):
            assert part in ours, (part, ours)
    assert {flag.lstrip("-").partition("=")[0] for flag, _ in (*found.changed, *found.lost)} == set(said.split())
    assert all(words for _, words in (*found.changed, *found.lost))


def test_there_are_forty_of_them() -> None:
    assert len({row[0] for row in LINES}) >= 40


def test_every_option_that_a_translation_names_exists() -> None:
    if not any(command.name == "inspect" for command in app.registered_commands):
        register_commands()
    group = get_command(app)
    for _, line, _, _ in LINES:
        for words in commands(translate(line.strip("`").removeprefix("(py3.8) PS C:\\m> "))):
            command = getattr(group, "commands")[words[1]]  # noqa: B009 (a click group)
            options = {option for parameter in command.params for option in parameter.opts}
            assert {w for w in words if w.startswith("--")} <= options, words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trtexec --onxn=m.onnx", "did you mean --onnx"),
        ("trtexec --fp16", "nothing to build or run"),
        ("trtexec --onnx=m.onnx --warmUp=soon", "--warmUp=soon is no number"),
        ("trtexec --onnx", "--onnx wants a value"),
        ("trtexec --onnx=m.onnx 'unclosed", "check its quotes"),
        ("trtexec onnx=m.onnx", "is no flag of trtexec"),
        ("trtexec --onnx=m.onnx --memPoolSize=swimming:3", "is not POOL:SIZE"),
    ],
)
def test_what_is_no_command_line_is_refused_in_one_line(line: str, words: str) -> None:
    from quantbench.errors import QuantbenchError

    with pytest.raises(QuantbenchError, match=re.escape(words)) as error:
        translate(line)
    assert "\n" not in str(error.value)


def test_the_command_prints_and_takes_a_pasted_line() -> None:
    if not any(command.name == "inspect" for command in app.registered_commands):
        register_commands()
    cli = CliRunner()
    words = ["trtexec", "--", "--onnx=m.onnx", "--fp16", "--avgRuns=100"]
    result = cli.invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "quantbench build m.onnx --out m.engine --precision fp16" in result.output
    assert "lost: --avgRuns: percentiles are over all calls" in result.output
    pasted = cli.invoke(
        app, ["trtexec", "/usr/src/tensorrt/bin/trtexec --onnx=m.onnx --fp16 --avgRuns=100 2>&1 | tee log"]
    )
    assert pasted.output == result.output


def test_each_flag_says_what_does_its_work_or_that_nothing_does() -> None:
    assert len(FLAGS) >= 110
    for flag in FLAGS.values():
        assert flag.ours or flag.words, flag.name
