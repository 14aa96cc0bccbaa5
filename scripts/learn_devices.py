"""Learn the devices that ship (`devices/*.yaml`) from the logs and profiles beside the checkout.

    python scripts/learn_devices.py [--shared ../shared]

Two passes: each device from its own data alone gives `devices/_prior.yaml`; then each again, helped by the others.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from quantbench.latency.assemble import learn_device
from quantbench.latency.device_file import write_device
from quantbench.latency.gpus import Specs, published
from quantbench.latency.learn import prior_of
from quantbench.latency.prior import Prior, merged
from quantbench.latency.prior_file import write_prior
from quantbench.latency.sources import Source, read_sources

_TREX = "NVIDIA/TensorRT tools/experimental/trt-engine-explorer"
_COOKBOOK = "NVIDIA/trt-samples-for-hackathon-cn cookbook"
_BEV = "cn-hezhu/BEVFusion-TensorRT-ROS@386f1e0"


@dataclass(frozen=True)
class Recipe:
    """Files of one device: (path below shared, source, licence); `gpu` where the files do not tell it, `label` where
    what they call it is another device's name, too."""

    name: str
    files: tuple[tuple[str, str, str], ...]
    gpu: str = ""
    label: str = ""


def _trex(*names: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((f"artefacts/json/{n}.onnx.engine.graph.json", _TREX, "Apache-2.0") for n in names)


def _bev(*names: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (f"logs-nolicence/bevfusion_{n}_build.log.xz", _BEV, "none stated; fitted numbers only") for n in names
    )


RECIPES = (
    Recipe("a100", (("artefacts/logs/centerpoint_8503_verbose.log", "NVIDIA-AI-IOT/Lidar_AI_Solution@787ad95", "MIT"),
                    *_trex("trex_pt_fp32_resnet", "trex_pt_fp16_resnet", "trex_pt_qat_resnet-qat",
                           "trex_pt_qat-residual_resnet-qat-residual"))),
    Recipe("rtx-3080-ti", _bev("camera.backbone_RTX3080Ti_trt8.6.0_int8fp16", "fuser_RTX3080Ti_trt8.6.0_int8fp16",
                               "head.bbox_RTX3080Ti_trt8.6.0_int8fp16", "camera.vtransform_RTX3080Ti_trt8.6.0_fp16")),
    Recipe("rtx-4090", tuple((f"logs-nolicence/rtdetrv2_int8qdq_RTX4090_trt10.9_fp16_{part}",
                              "jacksonsc007/RTDETR_TensorRT_Deployment@54e1ae6", "none stated; fitted numbers only")
                             for part in ("build.log.xz", "graph.json.xz", "profile.json.xz"))),
    Recipe("orin", (("artefacts/logs/lix_resnet50_Orin_trt8510_fp16_build.log.xz",
                     "lix19937/lix19937.github.io@f6d6135", "MIT"),)),
    Recipe("orin-4sm", (("artefacts/logs/trt852_qdq_yolo_verbose.log", _TREX, "Apache-2.0"),),
           label="Orin, 4 SMs"),
    Recipe("rtx-3090", _trex("trex_tf_fp32_resnet", "trex_tf_fp16_resnet")),
    Recipe("v100", (("timings/v100_tensorrt_convs.csv.xz", "alibaba/lightweight-neural-architecture-search@8ccaf88",
                     "Apache-2.0"),), "Tesla V100"),
    Recipe("xavier", (("artefacts/logs/levit128s_Xavier_trt840_fp16_dla_build.log.xz", "JQZhai/LeViT-TensorRT@042a1d6",
                       "MIT"),)),
    Recipe("gtx-1070", (("artefacts/logs/cookbook84_trtexec_result-FP16.txt", _COOKBOOK, "Apache-2.0"),)),
    Recipe("h100-pcie", tuple((f"artefacts/logs/cookbook1016_{n}", _COOKBOOK, "Apache-2.0") for n in
                              ("07-Tool_trtexec_result-02.log", "04-Feature_ProfilingVerbosity_log-main.py.log")),
           "H100 PCIe"),
)  # fmt: skip


def sources_of(recipe: Recipe, shared: Path) -> list[Source]:
    """The recipe's files, read. A card of the same name and another bandwidth counts as the first file's."""
    found = read_sources([shared / path for path, _, _ in recipe.files])
    gpu = next((s.specs for s in found if s.specs is not None), None) or published(recipe.gpu)
    assert gpu is not None, recipe.name
    if recipe.label:
        gpu = replace(gpu, gpu=recipe.label)
    return [replace(s, specs=gpu) for s in found]


def learnt_alone(shared: Path) -> tuple[dict[str, tuple[list[Source], Specs]], Prior]:
    """Sources of every device, and what each tells of the others."""
    read: dict[str, tuple[list[Source], Specs]] = {}
    priors: list[Prior] = []
    for recipe in RECIPES:
        sources = sources_of(recipe, shared)
        specs = sources[0].specs
        assert specs is not None
        read[recipe.name] = (sources, specs)
        # Profiles hold more than kernels: only logs speak for other devices, except where there is nothing else.
        alone = learn_device(recipe.name, sources, Prior(), profiles=False)
        priors.append(prior_of(specs.gpu, specs, alone.products, alone.moved, alone.floor))
        print(
            f"{recipe.name}: {len(alone.products)} classes of products, {len(alone.moved)} of moved bytes", flush=True
        )
    return read, merged(priors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--shared", type=Path, default=root.parent / "shared")
    parser.add_argument("--out", type=Path, default=root / "devices")
    arguments = parser.parse_args()
    read, prior = learnt_alone(arguments.shared)
    arguments.out.mkdir(exist_ok=True)
    write_prior(prior, arguments.out / "_prior.yaml")
    for recipe in RECIPES:
        sources, specs = read[recipe.name]
        files = [
            {"name": Path(path).name, "source": source, "licence": licence} for path, source, licence in recipe.files
        ]
        device = learn_device(recipe.name, sources, prior, specs=specs, files=files)
        write_device(device, arguments.out / f"{recipe.name}.yaml")
        print(f"{recipe.name}: {device.evidence.rows} rows, {dict(device.evidence.error)}, "
              f"profile {device.profile.mean} ± {device.profile.spread}, compute {device.compute.mean} ± "
              f"{device.compute.spread} µs a layer", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
