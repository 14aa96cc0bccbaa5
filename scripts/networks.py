"""Networks that the comparisons and the shipped test models are trained with: plain torch, written for this project.

`DigitDetector` is an anchor-free one-stage detector after FCOS (arXiv:1904.01355) with the distribution head of GFL
(arXiv:2006.04388); `SmallViT` after arXiv:2010.11929; `SmallConvNeXt` after arXiv:2201.03545; `Conv1dTransformer`
reads a picture as a sequence of columns.
"""

import torch
from torch import Tensor, nn

CLASSES = 10
BINS = 8
STRIDES = (8, 16)


class ConvAct(nn.Sequential):
    """Conv, batch norm, SiLU."""

    def __init__(self, into: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out), nn.SiLU(inplace=True)
        )


class Bottleneck(nn.Module):
    """1x1 to half the width, 3x3 back, and a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow, self.wide = ConvAct(width, width // 2), ConvAct(width // 2, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same."""
        y: Tensor = self.wide(self.narrow(x))
        return x + y


class DigitDetector(nn.Module):
    """[N, 3, size, size] in 0..1 to [N, 4 + 10, anchors]: centre and sides in pixels, then class scores 0..1.

    In training mode: the raw distances [N, 4 * BINS, anchors] and class logits [N, 10, anchors].
    """

    anchors: Tensor
    strides: Tensor

    def __init__(self, size: int = 320) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvAct(3, 16, 3, 2), ConvAct(16, 32, 3, 2), Bottleneck(32))
        self.fine = nn.Sequential(ConvAct(32, 64, 3, 2), Bottleneck(64), Bottleneck(64))
        self.coarse = nn.Sequential(ConvAct(64, 80, 3, 2), Bottleneck(80))
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.gather = ConvAct(240, 80)
        self.lateral = ConvAct(80, 64)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.merge_fine = ConvAct(128, 64)
        self.down = ConvAct(64, 48, 3, 2)
        self.merge_coarse = ConvAct(112, 64)
        self.boxes = nn.ModuleList(nn.Sequential(ConvAct(64, 32, 3), nn.Conv2d(32, 4 * BINS, 1)) for _ in STRIDES)
        self.classes = nn.ModuleList(nn.Sequential(ConvAct(64, 32, 3), nn.Conv2d(32, CLASSES, 1)) for _ in STRIDES)
        self.distance = nn.Conv2d(BINS, 1, 1, bias=False)
        self.distance.weight.requires_grad_(False).copy_(torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1, 1))
        for head in self.classes:
            nn.init.constant_(head.get_parameter("1.bias"), -4.6)  # 1 % at the start, as focal losses want
        centres, strides = [], []
        for stride in STRIDES:
            side = size // stride
            y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
            centres.append(torch.stack([x.reshape(-1), y.reshape(-1)]) * stride)
            strides.append(torch.full((side * side,), float(stride)))
        self.register_buffer("anchors", torch.cat(centres, 1), persistent=False)
        self.register_buffer("strides", torch.cat(strides), persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps of both strides, 64 channels each."""
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        once = self.pool(coarse)
        coarse = self.lateral(self.gather(torch.cat([coarse, once, self.pool(once)], 1)))
        fine = self.merge_fine(torch.cat([self.up(coarse), fine], 1))
        return [fine, self.merge_coarse(torch.cat([self.down(fine), coarse], 1))]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        maps = self.features(x)
        distances = torch.cat([head(m).flatten(2) for head, m in zip(self.boxes, maps, strict=True)], 2)
        logits = torch.cat([head(m).flatten(2) for head, m in zip(self.classes, maps, strict=True)], 2)
        if self.training:
            return distances, logits
        near, far = torch.split(self.sides(distances), 2, 1)
        low, high = self.anchors - near, self.anchors + far
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], 1)

    def sides(self, distances: Tensor) -> Tensor:
        """[N, 4 * BINS, A] to left, top, right, bottom in pixels, [N, 4, A]: the mean of each distribution."""
        n, _, anchors = distances.shape
        shares = distances.view(n, 4, BINS, anchors).transpose(1, 2).softmax(1)
        found: Tensor = self.distance(shares).view(n, 4, anchors) * self.strides
        return found


class Attention(nn.Module):
    """Pre-norm transformer block, as torchvision's ViT has it."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, width] to the same."""
        y = self.ln_1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        z: Tensor = self.mlp(self.ln_2(x))
        return x + z


class SmallViT(nn.Module):
    """[N, channels, size, size] to logits [N, 10]."""

    def __init__(
        self,
        size: int = 28,
        patch: int = 4,
        channels: int = 1,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*[Attention(width, heads, hidden or 2 * width) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        y: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return y


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, layer norm, two linears with GELU, layer scale, and a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.wide, self.act, self.narrow = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        z: Tensor = self.scale * self.narrow(self.act(self.wide(y)))
        return x + z.permute(0, 3, 1, 2)


class Norm2d(nn.LayerNorm):
    """Layer norm over the channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        y: Tensor = super().forward(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class SmallConvNeXt(nn.Module):
    """[N, channels, H, W] to logits [N, 10]."""

    def __init__(
        self, channels: int = 1, widths: tuple[int, ...] = (16, 32, 64), depths: tuple[int, ...] = (2, 2, 4)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 2, 2), Norm2d(widths[0], eps=1e-6)]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if i:
                layers += [Norm2d(widths[i - 1], eps=1e-6), nn.Conv2d(widths[i - 1], width, 2, 2)]
            layers += [ConvNeXtBlock(width) for _ in range(depth)]
        self.body = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.head(self.norm(self.body(x).mean((2, 3))))
        return y


class Conv1dTransformer(nn.Module):
    """[N, rows, columns], a picture read column by column, to logits [N, 10]."""

    def __init__(self, rows: int = 28, columns: int = 28, width: int = 96, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(rows, width, 3, padding=1), nn.BatchNorm1d(width), nn.GELU(), nn.Conv1d(width, width, 3, 1, 1),
            nn.GELU(),
        )  # fmt: skip
        self.positions = nn.Parameter(torch.randn(1, columns, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.stem(x).transpose(1, 2) + self.positions
        z: Tensor = self.head(self.norm(self.encoder(y)).mean(1))
        return z
