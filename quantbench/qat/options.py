"""Options of fine-tuning; a recipe sets them under `training:`."""

from dataclasses import dataclass, field

from quantbench.stage import UNKEYED


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Defaults are for a model that is trained already: a few epochs at a small rate that falls by a cosine.

    `freeze_after`: share of the epochs after which ranges no longer move. `distill`: weight of the loss against the
    float model (0: none). `patience`: epochs without a better accuracy before training stops. `amp`: "bf16", "fp16"
    or "off". `clip`: largest gradient norm. `learned_scales`: train activation scales (LSQ).
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    freeze_after: float = 0.5
    distill: float = 0.0
    patience: int = 10
    amp: str = "bf16"
    clip: float = 10.0
    ema: float = 0.998
    learned_scales: bool = False
    seed: int = 0
    workers: int = field(default=2, metadata=UNKEYED)
