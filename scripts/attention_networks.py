"""Two more networks that are trained and shipped, with attention: plain torch, written for this project.

`DigitSwin` after Swin (arXiv:2103.14030), with masked shifted windows and a bias by relative position; `DigitDetr`
after DETR (arXiv:2005.12872), its queries anchored at points, as in Anchor DETR (arXiv:2109.07107), and its tokens of
the encoder trained to find boxes too, several a digit, as in H-DETR (arXiv:2207.13080).
"""

import math

import torch
from torch import Tensor, nn

from scripts.networks import CLASSES, Bottleneck, ConvAct

WINDOW = 4


class WindowBlock(nn.Module):
    """Attention in windows of 4 x 4, shifted by `shift`, then two Linears; `side` is that of the map."""

    places: Tensor
    hidden: Tensor

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.shift = heads, shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.bias = nn.Parameter(torch.randn((2 * WINDOW - 1) ** 2, heads) * 0.02)
        at = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + WINDOW - 1  # [2, 16, 16]
        self.register_buffer("places", apart[0] * (2 * WINDOW - 1) + apart[1], persistent=False)
        # Which part of the picture each place of a shifted map comes from; only the same part is looked at.
        part = torch.zeros(side, dtype=torch.int64)
        if shift:
            part[-WINDOW:-shift], part[-shift:] = 1, 2
        parts = (part[:, None] * 3 + part[None]).view(1, side, side, 1)
        own = self.windows(parts)[..., 0]  # [windows, 16]
        self.register_buffer("hidden", (own[:, :, None] != own[:, None]).float() * -100.0, persistent=False)

    @staticmethod
    def windows(x: Tensor) -> Tensor:
        """[N, H, W, C] to [N * windows, 16, C]."""
        n, h, w, c = x.shape
        x = x.view(n, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, WINDOW * WINDOW, c)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same."""
        _, h, w, c = x.shape
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        tokens, size = WINDOW * WINDOW, c // self.heads
        q, k, v = self.qkv(self.windows(y)).view(-1, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * size**-0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias[self.places.view(-1)].view(tokens, tokens, self.heads).permute(2, 0, 1)
        if self.shift:
            count = len(self.hidden)
            scores = scores.view(-1, count, self.heads, tokens, tokens) + self.hidden[:, None]
            scores = scores.view(-1, self.heads, tokens, tokens)
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, tokens, c))
        y = y.view(-1, h // WINDOW, w // WINDOW, WINDOW, WINDOW, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        z: Tensor = self.mlp(self.norm2(x))
        return x + z


class Merging(nn.Module):
    """Half the side, twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to [N, H / 2, W / 2, 2 C]."""
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        y: Tensor = self.reduce(self.norm(torch.cat(parts, -1)))
        return y


class DigitSwin(nn.Module):
    """[N, 3, size, size] to logits [N, 10]; three stages of two blocks, the second of each shifted where it can be."""

    def __init__(self, size: int = 64, patch: int = 4, width: int = 32) -> None:
        super().__init__()
        self.patches, self.start = nn.Conv2d(3, width, patch, patch), nn.LayerNorm(width)
        side, layers = size // patch, list[nn.Module]()
        for stage in range(3):
            layers += [Merging(width // 2)] if stage else []
            shift = WINDOW // 2 if side > WINDOW else 0
            layers += [WindowBlock(width, width // 16, side, 0), WindowBlock(width, width // 16, side, shift)]
            side, width = side // 2, 2 * width
        self.body = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(width // 2), nn.Linear(width // 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.body(self.start(self.patches(x).permute(0, 2, 3, 1)))
        y: Tensor = self.head(self.norm(x).mean((1, 2)))
        return y


def waves(points: Tensor, width: int) -> Tensor:
    """Points [..., 2] in 0..1 as sines and cosines, [..., width]."""
    rates = 2 * math.pi * 40 ** torch.linspace(0, 1, width // 4, device=points.device) / 2
    angles = points[..., None] * rates  # [..., 2, width / 4]
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention among tokens whose places are known, then two Linears."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """[N, T, width] and [1, T, width] to [N, T, width]."""
        y = self.norm1(x)
        x = x + self.attention(y + places, y + places, y, need_weights=False)[0]
        z: Tensor = self.mlp(self.norm2(x))
        return x + z


class DecoderLayer(EncoderLayer):
    """The same with attention to the encoder's tokens between."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__(width, heads, hidden)
        self.norm3 = nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)

    def decode(self, x: Tensor, places: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """Queries [N, Q, width] at `places` [1, Q, width], tokens `memory` [N, T, width], `keys` with their places."""
        y = self.norm1(x)
        x = x + self.attention(y + places, y + places, y, need_weights=False)[0]
        x = x + self.cross(self.norm3(x) + places, keys, memory, need_weights=False)[0]
        z: Tensor = self.mlp(self.norm2(x))
        return x + z


class Head(nn.Module):
    """Boxes and class logits of tokens at known points."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.classes = nn.LayerNorm(width), nn.Linear(width, CLASSES)
        self.boxes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        nn.init.constant_(self.classes.bias, -4.6)  # 1 % at the start, as focal losses want

    def forward(self, x: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, width] and boxes before the sigmoid [1, T, 4] to boxes [N, T, 4] in 0..1 and logits [N, T, 10]."""
        y = self.norm(x)
        return (self.boxes(y) + starts).sigmoid(), self.classes(y)


Found = tuple[Tensor, Tensor]


class DigitDetr(nn.Module):
    """[N, 3, size, size] in 0..1 to boxes [N, queries, 4] (centre and sides, shares of the image) and class logits
    [N, queries, 10], whose sigmoids are the scores.

    In training mode: (boxes, logits) of each decoder layer, then those of the encoder's tokens.
    """

    grid: Tensor
    rows: Tensor

    def __init__(self, size: int = 320, width: int = 64, side: int = 7, encoders: int = 2, decoders: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            ConvAct(3, 16, 3, 2), ConvAct(16, 32, 3, 2), Bottleneck(32), ConvAct(32, 64, 3, 2), Bottleneck(64),
            Bottleneck(64), ConvAct(64, 96, 3, 2), Bottleneck(96), Bottleneck(96), nn.Conv2d(96, width, 1),
        )  # fmt: skip
        self.register_buffer("grid", self.points(size // 16), persistent=False)
        self.register_buffer("rows", waves(self.grid, width), persistent=False)
        self.anchors = nn.Parameter(self.points(side))
        self.queries = nn.Parameter(torch.randn(1, side * side, width) * 0.02)
        self.placed = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.encoder = nn.ModuleList(EncoderLayer(width, 4, 2 * width) for _ in range(encoders))
        self.decoder = nn.ModuleList(DecoderLayer(width, 4, 2 * width) for _ in range(decoders))
        self.memory = nn.LayerNorm(width)
        self.head, self.proposals = Head(width), Head(width)

    @staticmethod
    def points(side: int) -> Tensor:
        """Centres of a grid's cells as x, y in 0..1, [side * side, 2]."""
        at = (torch.arange(side) + 0.5) / side
        return torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).view(-1, 2)

    @staticmethod
    def starts(points: Tensor) -> Tensor:
        """Points [T, 2] as boxes of a fifth of the image, before the sigmoid, [1, T, 4]."""
        return torch.cat([torch.logit(points, 1e-3), torch.full_like(points, -1.4)], -1)[None]

    def forward(self, x: Tensor) -> Found | list[Found]:
        """See the class."""
        keys = self.placed(self.rows)[None]
        places = self.placed(waves(self.anchors, self.rows.shape[1]))[None]
        x = self.backbone(x).flatten(2).transpose(1, 2)
        for layer in self.encoder:
            x = layer(x, keys)
        memory = self.memory(x)
        seen, found, starts = memory + keys, list[Found](), self.starts(self.anchors)
        y = self.queries.expand(x.shape[0], -1, -1)
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            y = layer.decode(y, places, memory, seen)
            if self.training:
                found.append(self.head(y, starts))
        if self.training:
            return [*found, self.proposals(x, self.starts(self.grid))]
        boxes: Found = self.head(y, starts)
        return boxes
