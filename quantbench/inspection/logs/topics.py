"""Sentences told by what they speak of, for lines that no known beginning tells.

TensorRT words the same thing anew in each version (`Skipping tactic 3 due to …`, `Fast skip Tactic:0x… which exceed
time limit`, `[BlackList] tactic …`). The thing spoken of stays the same, so that it tells the kind where the beginning
does not. The forms are tried in order; each needs words that only one kind of line holds.
"""

import re

_FORMS: tuple[tuple[str, str], ...] = (
    # quantization, before the kinds that share its words
    (r"[Ss]etting dynamic range for|[Dd]ynamic ranges? (?:of|for|is|was)", "dynamic-range"),
    (r"default quantization params|quantization data is missing", "missing-scale"),
    (r"scale and zero-point|[Uu]ser overriding scale|[Tt]ensor scales?\b|requires? (?:a )?scale", "scale"),
    (r"\b(?:int8|INT8|Int8)\b.*\b(?:reject|not (?:be )?used|missing|unsupported|disabled|skipp)", "rejected-int8"),
    (r"[Rr]eject(?:ed|ing)\b", "rejected-int8"),
    (r"\b[Cc]alibrat(?:ion|or|ing|ed)\b|[Cc]alculating [Mm]axima|uniformly zero|[Hh]istogram", "calibration"),
    # choosing kernels
    (r"\btiming cache\b|\bcache (?:hit|miss)\b|cached (?:tactic|result|timing)", "timing-cache"),
    (r"[Ss]kip\w*\s+[Tt]actic|[Tt]actic\w*.*\b(?:skipp|exceed|insuf|not supported|unsupp|fail|invalid)", "tactic-skip"),
    (r"\b(?:unparsable|pruned|pruning)\b.*\btactics?\b|\btactics?\b.*\b(?:unparsable|pruned|available)\b", "cost"),
    (r"[Uu]nrecognized MMA|\bMMA instruction\b|\bxmma\b.*(?:not|un)\s?(?:supported|recogni)", "tactic-skip"),
    (r"\bno valid tactics\b|\bTiming Runner\b|\bformat combination\b|\b[Aa]utotun", "cost"),
    (r"^\S.* \([A-Za-z]\w*(?:\[0x[0-9a-f]+\])?\) (?:Set|Get|Profil)", "tactic-name"),
    (r"\b[Tt]actic[s]?\b|\b[Cc]ask\w*\b.*\b(?:kernel|shader)|\bkernel(?:s)? (?:cache|library|name)", "kernel"),
    # the optimizer
    (r"^\w+(?:Fusion|Transform|Erasure|Nodes|Conversion|Swap\w*): ", "fuse"),
    (r"^(?:Replac|Splitt|Sink|Mov|Fold|Push|Convert|Remov|Delet|Insert|Clon|Merg|Transform|Unroll)ing\b", "rewrite"),
    (r"\b(?:is|was|been) (?:removed|eliminated|folded|fused|merged|replaced|cloned)\b|\bdead[- ]layer", "rewrite"),
    (r"\b[Mm]yelin\b|\bForeignNode\b.*\b(?:compil|optimi|lower|graph)|\bforeignNode\b|\bbackend\b.*\bcompil", "myelin"),
    (r"\b(?:graph )?(?:optimi[sz]ation|optimizer)\b.*\b(?:pass|time|complet|start)", "phase"),
    # placement and memory
    (r"\bDLA\b|\boffloaded to\b|^\s*(?:Pool Sizes|Required|Used): .*\b(?:SRAM|DRAM)\b", "placement"),
    (r"^\{ForeignNode\[.*\]\} (?:\(|success|fail)", "placement"),
    (r"\b(?:block assignment|memory blocks?|persistent memory|[Ss]cratch|[Ww]orkspace|allocat\w+)\b", "memory"),
    (r"\b\d+(?:\.\d+)? ?(?:MiB|KiB|GiB|bytes|MB)\b", "memory"),
    # parsing
    (r"\bbroadcast(?:ing)? \w+ to make tensors conform|\bdims\(\w+\)=", "import-detail"),
    (r"\b(?:ONNX|onnx)\b|\b(?:importer|parser|parsing|initializer|opset)\b", "import-detail"),
    (r"\b(?:affected|zero|subnormal|clamp\w*|INT64|UINT8) weights?\b", "import-detail"),
    (r"\bweights? .*\b(?:range|subnormal|clamp)", "import-detail"),
    (r"^(?:Input|Output|Shape|Axis|Axes|Pad|Stride|Kernel|Scale|Dim|Attribute|Type)s?\b[^:]{0,40}: ?", "import-detail"),
    # precision and engine
    (r"\b(?:precision|FP16|FP32|TF32|BF16|fp16|fp32|reduced precision)\b", "precision"),
    (r"\boptimization profiles?\b|\bshape(?:s)? (?:tensor|input|constraint)|\bdynamic shapes?\b", "build"),
    (r"\b(?:[Ss]erializ|[Dd]eserializ)\w+|\bplan file\b|\bengine\b", "engine"),
    (r"\bplugins?\b|\bcreator\b", "plugin"),
    (r"\b(?:cuBLAS|cublas\w*|cuDNN|cudnn|CUDA|NVRTC|nvrtc|library)\b", "library"),
    (r"\b(?:elapsed|took|completed in|finished in|in) \d[\d.e-]* ?(?:s|sec|seconds|ms|us|microseconds)\b", "build"),
)  # fmt: skip
_COMPILED = tuple((re.compile(form), kind) for form, kind in _FORMS)


def topic(message: str) -> str:
    """The kind that `message` speaks of, "" where no form fits."""
    for form, kind in _COMPILED:
        if form.search(message):
            return kind
    return ""
