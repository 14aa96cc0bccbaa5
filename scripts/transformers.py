"""Transformers in the styles that people export, small and with random weights: two blocks each.

Plain torch written for this project, after the shapes of the code that is common: `ViT` of
`TimmBlock` (one qkv Linear, attention by scaled_dot_product_attention or by hand, layer scale) or `TorchvisionBlock`
(nn.MultiheadAttention), `SmallSwin` (windows, relative position bias, patch merging; arXiv:2103.14030), `Bert` (three
Linears, post-norm, a mask of 0 and -1e4; arXiv:1810.04805), `WhisperEncoder` (1-D convs, sinusoids, no bias on keys;
arXiv:2212.04356), `Llama` (RMS norm, rotary positions, gated MLP; arXiv:2302.13971), and `SmallDetr` (queries and an
encoder's tokens; arXiv:2005.12872).

`python -m scripts.transformers tests/data/transformers` writes each by both exporters of torch, for the tests of the
placement rules, which look at no weight: larger ones are zeroed and the files packed.
"""

import argparse
import gzip
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from scripts.networks import CLASSES, Bottleneck, ConvAct

WIDTH, HEADS, TOKENS = 32, 2, 24
# Weights with more values than this are zeroed.
_KEPT = 64


def heads_of(x: Tensor) -> Tensor:
    """[N, T, W] to [N, heads, T, W / heads]."""
    return x.view(x.shape[0], x.shape[1], HEADS, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Inverse of `heads_of`."""
    return x.transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        found: Tensor = self.out(F.gelu(self.into(x)))
        return found


class TimmBlock(nn.Module):
    """Pre-norm, qkv in one Linear, layer scale."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.norm1, self.norm2, self.mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Mlp()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.gamma = nn.Parameter(torch.full((WIDTH,), 0.1))

    def attention(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        found: Tensor = self.proj(y.transpose(1, 2).reshape(n, t, -1))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        x = x + self.gamma * self.attention(self.norm1(x))
        found: Tensor = x + self.gamma * self.mlp(self.norm2(x))
        return found


class TorchvisionBlock(nn.Module):
    """Pre-norm, nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Mlp()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        y = self.ln_1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        found: Tensor = x + self.mlp(self.ln_2(x))
        return found


class ViT(nn.Module):
    """[N, 3, 32, 32] to logits [N, 16], with a class token."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, WIDTH, 8, 8), nn.Sequential(*blocks)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 17, WIDTH))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        found: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return found


class SwinBlock(nn.Module):
    """Attention in windows of 4 x 4 with a bias by position, shifted where `shift` is not 0."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(1, HEADS, 16, 16))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same."""
        n, h, w, c = x.shape
        y = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2)) if self.shift else self.norm1(x)
        y = y.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(y).reshape(-1, 16, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q * (c // HEADS) ** -0.5) @ k.transpose(-2, -1) + self.bias
        y = self.proj((weights.softmax(-1) @ v).transpose(1, 2).reshape(-1, 16, c))
        y = y.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        x = x + (torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y)
        found: Tensor = x + self.mlp(self.norm2(x))
        return found


class SmallSwin(nn.Module):
    """[N, 3, 32, 32] to logits [N, 16]: one block at 8 x 8, patch merging, one at 4 x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm0 = nn.Conv2d(3, WIDTH, 4, 4), nn.LayerNorm(WIDTH)
        self.first, self.second = SwinBlock(WIDTH, 2), SwinBlock(2 * WIDTH, 0)
        self.norm_merge, self.merge = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, 2 * WIDTH, bias=False)
        self.norm, self.head = nn.LayerNorm(2 * WIDTH), nn.Linear(2 * WIDTH, 16)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.first(self.norm0(self.patches(x).permute(0, 2, 3, 1)))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        x = self.norm(self.second(self.merge(self.norm_merge(x))))
        found: Tensor = self.head(x.mean((1, 2)))
        return found


class BertBlock(nn.Module):
    """Post-norm, three Linears, a mask that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm1, self.norm2, self.mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Mlp()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[N, T, W] and [N, 1, 1, T] to [N, T, W]."""
        q, k, v = heads_of(self.query(x)), heads_of(self.key(x)), heads_of(self.value(x))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask
        x = self.norm1(self.dense(joined(scores.softmax(-1) @ v)) + x)
        found: Tensor = self.norm2(self.mlp(x) + x)
        return found


class Bert(nn.Module):
    """Token ids [N, T] and mask [N, T] (int64) to the pooled vector [N, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.norm, self.first, self.second = nn.LayerNorm(WIDTH), BertBlock(), BertBlock()
        self.pooler = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        x = self.norm(self.words(ids) + self.places(torch.arange(TOKENS)))
        added = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e4
        x = self.second(self.first(x, added), added)
        return torch.tanh(self.pooler(x[:, 0]))


class WhisperBlock(nn.Module):
    """Pre-norm, three Linears, no bias on keys, both operands of the scores scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm1, self.norm2, self.mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        y = self.norm1(x)
        q, k, v = heads_of(self.query(y)), heads_of(self.key(y)), heads_of(self.value(y))
        scale = q.shape[-1] ** -0.25
        x = x + self.out(joined(((q * scale) @ (k * scale).transpose(-1, -2)).softmax(-1) @ v))
        found: Tensor = x + self.mlp(self.norm2(x))
        return found


class WhisperEncoder(nn.Module):
    """Mel spectrogram [N, 20, 2 T] to [N, T, W]."""

    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(20, WIDTH, 3, padding=1), nn.Conv1d(WIDTH, WIDTH, 3, 2, 1)
        self.register_buffer("place", torch.randn(TOKENS, WIDTH))
        self.blocks, self.norm = nn.Sequential(WhisperBlock(), WhisperBlock()), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(x)))).permute(0, 2, 1) + self.place
        found: Tensor = self.norm(self.blocks(x))
        return found


class RmsNorm(nn.Module):
    """x / sqrt(mean x^2) by hand, as Hugging Face's Llama has it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class LlamaBlock(nn.Module):
    """RMS norm, rotary positions, gated MLP, no biases."""

    cos: Tensor
    sin: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.norm1, self.norm2 = RmsNorm(), RmsNorm()
        angles = torch.outer(torch.arange(TOKENS), 1e4 ** -torch.linspace(0, 1, WIDTH // HEADS // 2)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotated(self, x: Tensor) -> Tensor:
        """[N, heads, T, D] to the same."""
        low, high = x.chunk(2, -1)
        return x * self.cos + torch.cat([-high, low], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        """[N, T, W] to the same."""
        y = self.norm1(x)
        q, k, v = self.rotated(heads_of(self.q(y))), self.rotated(heads_of(self.k(y))), heads_of(self.v(y))
        x = x + self.o(joined(F.scaled_dot_product_attention(q, k, v)))
        y = self.norm2(x)
        found: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return found


class Llama(nn.Module):
    """Token ids [N, T] (int64) to [N, T, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(50, WIDTH), RmsNorm()
        self.blocks = nn.Sequential(LlamaBlock(), LlamaBlock())

    def forward(self, ids: Tensor) -> Tensor:
        """See the class."""
        found: Tensor = self.norm(self.blocks(self.words(ids)))
        return found


class SmallDetr(nn.Module):
    """[N, 3, size, size] in 0..1 to [N, 4 + 10, queries], as `DigitDetector`; in training mode boxes 0..1 [L, N, Q, 4]
    (centre and sides) and logits [L, N, Q, 10] of every decoder layer."""

    def __init__(
        self, size: int = 320, width: int = 128, queries: int = 40, encoders: int = 2, decoders: int = 3
    ) -> None:
        super().__init__()
        self.size = size
        self.backbone = nn.Sequential(
            ConvAct(3, 24, 3, 2), ConvAct(24, 48, 3, 2), Bottleneck(48), ConvAct(48, 96, 3, 2), Bottleneck(96),
            Bottleneck(96), ConvAct(96, 160, 3, 2), Bottleneck(160), Bottleneck(160), nn.Conv2d(160, width, 1),
        )  # fmt: skip
        tokens = (size // 16) ** 2
        self.positions = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.queries = nn.Parameter(torch.randn(1, queries, width))
        encoder = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(encoder, encoders, enable_nested_tensor=False)
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
            for _ in range(decoders)
        )
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, CLASSES)
        self.boxes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        nn.init.constant_(self.classes.bias, -4.6)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        memory = self.encoder(self.backbone(x).flatten(2).transpose(1, 2) + self.positions)
        y = self.queries.expand(x.shape[0], -1, -1)
        layers = []
        for layer in self.decoder:
            y = layer(y, memory)
            layers.append(self.norm(y))
        if self.training:
            found = torch.stack(layers)
            return self.boxes(found).sigmoid(), self.classes(found)
        last = layers[-1]
        return torch.cat([self.boxes(last).sigmoid() * self.size, self.classes(last).sigmoid()], 2).transpose(1, 2)


def networks() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Each network with an example of its inputs."""
    torch.manual_seed(0)
    image, ids = torch.randn(2, 3, 32, 32), torch.randint(0, 50, (2, TOKENS))
    return {
        "timm-vit": (ViT([TimmBlock(False), TimmBlock(False)]), (image,)),
        "timm-vit-fused": (ViT([TimmBlock(True), TimmBlock(True)]), (image,)),
        "torchvision-vit": (ViT([TorchvisionBlock(), TorchvisionBlock()]), (image,)),
        "swin": (SmallSwin(), (image,)),
        "bert": (Bert(), (ids, torch.ones(2, TOKENS, dtype=torch.int64))),
        "whisper-encoder": (WhisperEncoder(), (torch.randn(2, 20, 2 * TOKENS),)),
        "llama": (Llama(), (ids,)),
        "detr": (SmallDetr(32, WIDTH, 8, 1, 1), (image,)),
    }


def export(module: nn.Module, example: tuple[Tensor, ...], path: Path, *, dynamo: bool) -> None:
    """Write `module` to `path` by one of torch's exporters."""
    module.eval()
    if dynamo:
        program = torch.onnx.export(module, example, dynamo=True, verbose=False)
        assert program is not None
        program.save(str(path), external_data=False)
    else:
        torch.onnx.export(module, example, str(path), dynamo=False, opset_version=17)


def without_weights(path: Path) -> bytes:
    """The packed ONNX file at `path` with its larger weights zeroed and without what tells of the code behind it."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > _KEPT:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    return gzip.compress(model.SerializeToString(), mtime=0)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for name, (module, example) in networks().items():
        for how in ("legacy", "dynamo"):
            if not given.only or name in given.only:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "m.onnx"
                    export(module, example, path, dynamo=how == "dynamo")
                    (given.out / f"{name}.{how}.onnx.gz").write_bytes(without_weights(path))
                print(name, how, flush=True)


if __name__ == "__main__":
    main()
