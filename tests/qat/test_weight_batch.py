"""All weights of a model quantized at once: the numbers of torch's operators, and nothing that a training loop may do
with a model gets in its way."""

import copy
import io
import pickle
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quantbench.qat import weight_batch
from quantbench.qat.insert import insert, plan_for
from quantbench.qat.layout import layout
from quantbench.qat.observe import calibrate
from quantbench.qat.quantizer import WeightQuantizer, weight_of, weight_quantizers
from quantbench.qat.trace import trace
from quantbench.qdq.options import PlacementOptions


class Small(nn.Module):
    """Four quantized layers in sequence, of which `rest` may run under a checkpoint, and `twice` runs two times."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.rest = nn.Sequential(nn.Conv2d(16, 16, 1), nn.SiLU(), nn.ConvTranspose2d(16, 16, 2, 2), nn.SiLU())
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 16)
        self.reentrant: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = self.rest(x) if self.reentrant is None else checkpoint(self.rest, x, use_reentrant=self.reentrant)
        return self.head(self.twice(torch.relu(self.twice(x))).mean((2, 3)))


LAYERS = 5


@pytest.fixture(autouse=True)
def batched(monkeypatch: pytest.MonkeyPatch) -> None:
    """By operators, which have the numbers of the kernels."""
    monkeypatch.setattr(weight_batch, "worthwhile", lambda weight: True)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(x: Tensor) -> nn.Module:
    torch.manual_seed(3)
    model = Small()
    traced = trace(model, x)
    insert(model, traced, plan_for(traced, PlacementOptions(head_float=False)))
    calibrate(model, lambda: [x], "minmax")
    for _, _, quantizer in weight_quantizers(model):
        quantizer.scale.mul_(0.7)  # so that some of each weight is out of range
    return model.train()


def by_operators(model: nn.Module) -> nn.Module:
    """A copy whose weights are quantized one by one, by torch's operators."""
    plain = copy.deepcopy(model)
    for _, _, quantizer in weight_quantizers(plain):
        quantizer.forward = quantizer._plain
    return plain


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and gradients of one step."""
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > LAYERS
    for one, other in zip(found, expected, strict=True):
        # A layer that runs twice adds its gradients up in another order.
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6 * float(other.abs().max()))


def nodes(y: Tensor) -> Counter[str]:
    """How often each operator is in the graph of `y`."""
    seen, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [other for other, _ in node.next_functions]
    return Counter(node.name() for node in seen)


def test_one_node_for_all_weights_with_the_numbers_of_one_each(model: nn.Module, x: Tensor) -> None:
    expected = gradients(by_operators(model), x)
    assert_equal(gradients(model, x), expected)  # the first pass tells which weights there are
    y = model(x)
    assert nodes(y)["_QuantizedBackward"] == 1
    assert torch.equal(y, expected[0])
    assert_equal(gradients(model, x), expected)
    outside = [
        (w.abs() > 127.6 * q.scale.max()).any() for _, m, q in weight_quantizers(model) for w in [weight_of(m, q)]
    ]
    assert len(outside) == LAYERS
    assert any(outside)


def test_gradients_of_the_batch_are_those_of_the_operators_to_the_bit(model: nn.Module, x: Tensor) -> None:
    model(x)
    quantized: dict[str, Tensor] = {}
    for name, _, quantizer in weight_quantizers(model):
        quantizer.register_forward_hook(lambda m, given, out, name=name: quantized.setdefault(name, out))
    model(x)
    for name, module, quantizer in weight_quantizers(model):
        weight = weight_of(module, quantizer)
        g = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        plain = quantizer._plain(weight)
        assert torch.equal(quantized[name], plain)
        (found,) = torch.autograd.grad(quantized[name], weight, g, retain_graph=True)
        (expected,) = torch.autograd.grad(plain, weight, g)
        assert torch.equal(found, expected)
        assert 0 < (found == 0).float().mean() < 1


def test_autocast_gets_the_weights_in_its_dtype_at_once(model: nn.Module, x: Tensor) -> None:
    plain = by_operators(model)
    results = []
    for each in (plain, model, model):
        with torch.autocast("cpu", torch.bfloat16):
            y = each(x)
        results.append((y, nodes(y)["ToCopyBackward0"]))
    assert torch.equal(results[0][0], results[2][0])
    assert results[2][1] < results[0][1]

    # A part that switches it off, and gets float32, gets its weights in float32.
    class Off(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return inner(x.float())

    inner, model.rest = model.rest, Off()
    results = []
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            results.append(model(x))
    assert torch.equal(results[0], results[2])


def test_weights_that_change_are_quantized_as_they_are(model: nn.Module, x: Tensor) -> None:
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    for _ in range(3):
        gradients(model, x)
        optimizer.step()
    assert_equal(gradients(model, x), gradients(by_operators(model), x))
    model.load_state_dict(other.state_dict())
    assert_equal(gradients(model, x), gradients(by_operators(other), x))
    model.first.weight = nn.Parameter(model.first.weight.detach() * 0.5)
    assert_equal(gradients(model, x), gradients(by_operators(model), x))
    model.to(memory_format=torch.channels_last)
    assert_equal(gradients(model, x), gradients(by_operators(model), x))


def test_gradients_accumulate_over_passes(model: nn.Module, x: Tensor) -> None:
    once = gradients(model, x)
    model.zero_grad()
    losses = [model(x).square().sum() for _ in range(3)]
    for loss in losses:
        loss.backward()
    assert_equal([p.grad for p in model.parameters()], [3 * g for g in once[1:]])


def test_parts_called_alone_have_graphs_of_their_own(model: nn.Module, x: Tensor) -> None:
    model(x)
    model(x)
    part = model.first
    losses = [part(x).sum(), part(x).sum()]
    for loss in losses:
        loss.backward()
    assert part.weight.grad is not None


def test_evaluation_keeps_no_graph(model: nn.Module, x: Tensor) -> None:
    trained = model(x)
    model.eval()
    with torch.no_grad():
        y = model(x)
    assert y.grad_fn is None
    assert torch.equal(y, trained)
    with torch.inference_mode():
        assert torch.equal(model(x), trained)
    # A pass that fails halfway leaves nothing open.
    with pytest.raises(RuntimeError):
        model(x[:, :2])
    assert not model.first._weight_quantizer.batch.open


def test_frozen_weights_get_no_gradient(model: nn.Module, x: Tensor) -> None:
    gradients(model, x)
    model.first.weight.requires_grad_(False)
    expected = gradients(by_operators(model), x)
    assert_equal(gradients(model, x), expected)
    assert_equal(gradients(model, x), expected)
    assert model.first.weight.grad is None


def test_layers_that_a_pass_leaves_out(model: nn.Module, x: Tensor) -> None:
    gradients(model, x)
    kept, model.rest = model.rest, nn.Identity()
    kept.zero_grad()
    expected = gradients(by_operators(model), x)
    assert_equal(gradients(model, x), expected)
    assert kept[0].weight.grad is None
    assert_equal(gradients(model, x), expected)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(model: nn.Module, x: Tensor, reentrant: bool) -> None:
    expected = gradients(by_operators(model), x)
    model.reentrant = reentrant
    for _ in range(3):
        assert_equal(gradients(model, x), expected)


def test_a_checkpoint_around_the_whole_model(model: nn.Module, x: Tensor) -> None:
    expected = gradients(by_operators(model), x)
    for _ in range(2):
        model.zero_grad()
        y = checkpoint(model, x, use_reentrant=False)
        y.square().sum().backward()
        assert_equal([y.detach(), *(p.grad for p in model.parameters())], expected)


def test_copies_and_pickles_have_weights_of_their_own(model: nn.Module, x: Tensor) -> None:
    gradients(model, x)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(stream, weights_only=False)]
    with torch.no_grad():
        model.first.weight.mul_(0.5)
    expected = gradients(by_operators(copies[0]), x)
    for other in copies:
        batches = {id(q.batch) for _, _, q in weight_quantizers(other)}
        assert len(batches) == 1
        assert model.first._weight_quantizer.batch not in batches
        for _ in range(2):
            assert_equal(gradients(other, x), expected)
    assert not torch.equal(gradients(model, x)[0], expected[0])


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_distributed_data_parallel_gets_every_gradient(model: nn.Module, x: Tensor) -> None:
    expected = gradients(by_operators(model), x)
    wrapped = nn.parallel.DistributedDataParallel(model)
    for _ in range(3):
        assert_equal(gradients(wrapped, x), expected)


def test_functional_calls_and_exporters_see_torchs_own_operators(model: nn.Module, x: Tensor) -> None:
    model(x)
    program = torch.export.export(copy.deepcopy(model).eval(), (x,))
    calls = Counter(str(n.target) for n in program.graph.nodes)
    assert calls["aten.fake_quantize_per_channel_affine.default"] == LAYERS + 1  # one layer runs twice
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    found = torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).square().sum())(parameters)
    assert_equal(list(found.values()), gradients(by_operators(model), x)[1:])


def test_a_weight_by_its_last_axis() -> None:
    weight = torch.randn(4, 6)
    assert WeightQuantizer("w", weight, -1).scale.shape == (6,)


def test_rows_of_memory() -> None:
    x = torch.empty(2, 32, 4, 6)
    last = x.contiguous(memory_format=torch.channels_last)
    assert layout(x.shape, x.stride()) == ((0, 1, 2, 3), 0, 0)
    assert layout(last.shape, last.stride()) == ((0, 2, 3, 1), 0, 0)
    half = last.chunk(2, 1)[1]
    assert layout(half.shape, half.stride()) == ((0, 2, 3, 1), 16, 32)
    half = x.chunk(2, 1)[1]
    assert layout(half.shape, half.stride()) == ((0, 1, 2, 3), 16 * 24, 32 * 24)
    assert layout(x[:, :, 0].shape, x[:, :, 0].stride()) is None  # rows of six
    part = x[:, :16, :2]
    assert layout(part.shape, part.stride()) is None  # two gaps
    assert layout((4, 8), (0, 1)) is None  # expanded
    assert layout((3, 1, 8), (8, 77, 1)) == ((0, 2), 0, 0)
