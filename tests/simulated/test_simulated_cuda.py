"""The simulated GPU itself: it refuses each kind of thing that CUDA refuses, and computes what a CPU computes."""

import copy
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from simulated_cuda import CudaTensor, simulated_cuda
from torch import nn
from torch.utils.checkpoint import checkpoint

from arc_helpers.runs import choose_device

pytestmark = pytest.mark.simulated_gpu
MIB = 2**20
MIXED = "at least two devices"


@pytest.fixture
def machine():
    with simulated_cuda(capability=(7, 5), devices=2) as found:
        yield found


def on_gpu(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(*shape, device="cuda", dtype=dtype)


def solve(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve_triangular(a, b, upper=False)


def write_at(target: torch.Tensor, index: torch.Tensor, values: torch.Tensor) -> None:
    target[index] = values


REFUSED = {
    "cpu + device": (lambda: on_gpu(3) + torch.ones(3), MIXED),
    "cpu labels": (lambda: F.cross_entropy(on_gpu(2, 3), torch.tensor([0, 1])), MIXED),
    "cpu indices of embeddings": (lambda: F.embedding(torch.tensor([0]), on_gpu(3, 4)), MIXED),
    "cpu mask": (lambda: torch.where(torch.ones(3) > 0, on_gpu(3), on_gpu(3)), MIXED),
    "cat with cpu": (lambda: torch.cat([on_gpu(2), torch.ones(2)]), MIXED),
    "cpu scalar in a product": (lambda: torch.dot(on_gpu(1), torch.ones(1)), MIXED),
    "two cards": (lambda: on_gpu(3) + torch.ones(3, device="cuda:1"), MIXED),
    "writing into cpu": (lambda: torch.zeros(3).add_(on_gpu(3)), MIXED),
    "writing into cpu at indices": (lambda: write_at(torch.zeros(3), torch.tensor([0]), on_gpu(1)), MIXED),
    "device indices of a cpu tensor": (lambda: torch.ones(3)[torch.tensor([0], device="cuda")], "indices should be"),
    "device scalar written into cpu": (lambda: torch.zeros(()).add_(on_gpu(())), MIXED),
    "cpu generator": (lambda: torch.randn(3, device="cuda", generator=torch.Generator()), "'cuda' device type for gen"),
    "cpu generator in place": (lambda: on_gpu(3).normal_(generator=torch.Generator()), "'cuda' device type for gen"),
    "numpy": (lambda: on_gpu(3).numpy(), "can't convert cuda:0 device type tensor to numpy"),
    "triangular half": (lambda: solve(on_gpu(2, 2, dtype=torch.float16), on_gpu(2, 1, dtype=torch.float16)), "'Half'"),
    "cholesky bfloat16": (lambda: torch.linalg.cholesky(torch.eye(2, device="cuda").bfloat16()), "'BFloat16'"),
    "inverse half": (lambda: torch.linalg.inv(torch.eye(2, device="cuda").half()), "'Half'"),
    "integer product": (lambda: on_gpu(2, 2, dtype=torch.long) @ on_gpu(2, 2, dtype=torch.long), "'Long'"),
    "a third card": (lambda: torch.ones(1, device="cuda:2"), "invalid device ordinal"),
    "pinning": (lambda: on_gpu(2).pin_memory(), "cannot pin"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses_is_refused(machine, name):
    action, message = REFUSED[name]
    with pytest.raises((RuntimeError, TypeError), match=message):
        action()


def test_what_cuda_allows_is_allowed(machine):
    x = torch.arange(6.0, device="cuda").view(2, 3)
    assert (x * torch.tensor(2.0)).tolist() == [[0, 2, 4], [6, 8, 10]]  # a CPU scalar
    assert x[torch.tensor([1])].device == torch.device("cuda", 0)  # CPU indices
    assert torch.where(x > 2, x, torch.tensor(0.0)).sum().item() == 12
    host = torch.zeros(2, 3)
    host[:] = x  # a copy between devices
    assert host.sum() == 15 and x.cpu().numpy().sum() == 15
    assert x.to("cuda") is x and x.cuda() is x and x.to(torch.float32) is x and x.to("cuda:1").device.index == 1
    assert x.masked_fill(x > 2, torch.tensor(-1.0)).min().item() == -1
    assert torch.tensor([1, 2], device="cuda").tolist() == [1, 2] and x.new_tensor([3]).is_cuda
    assert F.one_hot(torch.tensor([1], device="cuda"), 3).device.type == "cuda"
    assert x.view(-1)[0].numel() == 1 and x.T.contiguous().shape == (3, 2)
    assert x[[1, 0]].tolist() == [[3, 4, 5], [0, 1, 2]] and x[:, [True, False, True]].shape == (2, 2)
    with torch.device("cuda"):
        assert torch.zeros(2).is_cuda and torch.tensor([1]).is_cuda
    with torch.device("meta"):
        assert torch.zeros(2).is_meta and torch.tensor([1]).is_meta and torch.as_tensor([1.0]).is_meta


def test_training_gives_what_a_cpu_gives(machine):
    """Forward, backward and two steps of a small model with tied weights, and what `module.to` keeps."""

    def trained(device: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 5))
        model[4].weight = model[0].weight
        before = model[2].weight
        model.to(device)
        assert model[2].weight is before and model[4].weight is model[0].weight and isinstance(before, nn.Parameter)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        ids = torch.tensor([[0, 1, 2, 3]], device=device)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(ids)[0, :-1], ids[0, 1:]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        assert all(p.device.type == device for p in copy.deepcopy(model).parameters())
        return [p.detach().cpu() for p in model.parameters()]

    for cpu, gpu in zip(trained("cpu"), trained("cuda"), strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=0, atol=1e-6)


def test_transforms_of_functions(machine):
    x = torch.randn(4, 3, device="cuda")
    assert torch.vmap(lambda row: (row * 2).sum())(x).device.type == "cuda"
    gradient = torch.func.grad(lambda a: a.square().sum())(x)
    torch.testing.assert_close(gradient.cpu(), 2 * x.cpu())
    twice = torch.autograd.grad(x.requires_grad_().pow(3).sum(), x, create_graph=True)[0]
    assert torch.autograd.grad(twice.sum(), x)[0].cpu().equal(6 * x.detach().cpu())


@pytest.mark.parametrize("capability, dtype", [((7, 5), "float16"), ((9, 0), "bfloat16")])
def test_autocast_has_the_lists_of_cuda(capability, dtype):
    with simulated_cuda(capability=capability):
        assert (choose_device().device, choose_device().dtype) == ("cuda", dtype)
        dtype = getattr(torch, dtype)
        linear, x = nn.Linear(4, 4).cuda(), torch.randn(2, 4, device="cuda")
        with torch.autocast("cuda", dtype=dtype):
            y = linear(x)
            assert y.dtype == dtype and y.softmax(-1).dtype == y.sum().dtype == y.exp().dtype == torch.float32
            assert (y + x).dtype == torch.float32 and F.layer_norm(y, (4,)).dtype == torch.float32
            with pytest.raises(RuntimeError, match="triangular_solve_cuda"):
                torch.linalg.solve_triangular(y[:, :2], y, upper=False)
            with torch.autocast("cuda", enabled=False):
                assert linear(x).dtype == torch.float32
        y.float().sum().backward()
        assert linear.weight.grad.dtype == torch.float32


def test_memory_is_counted_and_given_back():
    with simulated_cuda(memory_gib=10 / 1024) as machine:
        x = torch.zeros(MIB, device="cuda")
        y = x.view(2, -1)[1]  # no storage of its own
        assert torch.cuda.memory_allocated() == 4 * MIB and torch.cuda.mem_get_info() == (6 * MIB, 10 * MIB)
        with pytest.raises(torch.OutOfMemoryError, match=r"^CUDA out of memory\. Tried to allocate 8\.00 MiB"):
            torch.zeros(2 * MIB, device="cuda")
        assert torch.cuda.memory_allocated() == 4 * MIB and machine.cards[0].ooms == 1
        del x
        assert torch.cuda.memory_allocated() == 4 * MIB  # the view holds it
        del y
        assert torch.cuda.memory_allocated() == 0 and torch.cuda.max_memory_allocated() == 4 * MIB
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 0


def test_checkpointing_saves_memory_and_nothing_else(machine):
    """What autograd keeps is counted; recomputing draws the same random numbers."""
    one = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Dropout(0.5), nn.Linear(256, 64))
    blocks = [copy.deepcopy(one).cuda() for _ in range(4)]

    def step(through):
        torch.manual_seed(1)
        before = torch.cuda.memory_allocated()
        x = torch.ones(128, 64, device="cuda", requires_grad=True)
        y = x
        for block in blocks:
            y = through(block, y)
        held = torch.cuda.memory_allocated() - before
        y.sum().backward()
        return held, x.grad.cpu()

    plain = step(lambda block, y: block(y))
    kept = step(lambda block, y: checkpoint(block, y, use_reentrant=False))
    assert kept[0] < 0.5 * plain[0] and kept[1].equal(plain[1])


def test_attention_is_fused_where_cuda_has_a_kernel():
    def held(capability, dtype, mask=None, grouped=False) -> int:
        with simulated_cuda(capability=capability):
            q, k, v = (torch.randn(1, 4, 256, 8, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
            if grouped:
                k, v = k[:, :2], v[:, :2]
            before = torch.cuda.memory_allocated()
            mask = None if mask is None else torch.ones(256, 256, device="cuda", dtype=torch.bool).tril()
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)
            found = torch.cuda.memory_allocated() - before
            y.sum().backward()
            assert q.grad.isfinite().all().item()
            return found

    whole = 4 * 256 * 256 * 2  # bytes of one score matrix in 16 bits
    assert held((9, 0), torch.bfloat16) < whole and held((7, 5), torch.float16) < whole
    assert held((9, 0), torch.bfloat16, grouped=True) < whole
    assert held((7, 5), torch.float16, grouped=True) > whole  # below 8.0 no fused kernel knows grouped heads
    assert held((7, 5), torch.bfloat16) > whole


def test_saving_and_loading(machine, tmp_path):
    x = torch.randn(3, device="cuda:1")
    save_file({"x": x}, tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors", device="cuda:0")["x"].tolist() == x.tolist()
    buffer = io.BytesIO()
    torch.save({"x": x, "p": nn.Parameter(x)}, buffer)
    buffer.seek(0)
    back = torch.load(buffer, weights_only=True)
    assert back["x"].device == x.device and isinstance(back["p"], nn.Parameter)
    buffer.seek(0)
    assert torch.load(buffer, map_location="cpu", weights_only=True)["x"].equal(x.cpu())


def test_random_numbers_of_a_card_are_its_own(machine):
    torch.manual_seed(3)
    first, host = torch.randn(4, device="cuda"), torch.rand(2)
    torch.manual_seed(3)
    assert torch.rand(2).equal(host)  # the card's numbers were not taken from the CPU's
    assert torch.randn(4, device="cuda").tolist() == first.tolist()
    state = torch.cuda.get_rng_state()
    dropped = F.dropout(first, 0.5)
    torch.cuda.set_rng_state(state)
    assert F.dropout(first, 0.5).tolist() == dropped.tolist()
    generator = torch.Generator("cuda").manual_seed(1)
    assert generator.device == torch.device("cuda", 0) and isinstance(torch.default_generator, torch.Generator)
    assert torch.rand(2, device="cuda", generator=generator).is_cuda


def test_torch_cuda_answers(machine, monkeypatch):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 2
    assert torch.cuda.get_device_capability() == (7, 5) and "T4" in torch.cuda.get_device_name()
    assert torch.cuda.is_bf16_supported() and not torch.cuda.is_bf16_supported(including_emulation=False)
    assert torch.cuda.get_device_properties(1).total_memory == machine.cards[1].total
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    with torch.cuda.stream(torch.cuda.Stream()), torch.cuda.device(1):
        assert torch.cuda.current_device() == 1 and torch.ones(1, device="cuda").device.index == 1
    end.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(end) >= 0 and torch.cuda.current_device() == 0
    pinned = torch.ones(2).pin_memory()
    assert pinned.is_pinned() and pinned.to("cuda", non_blocking=True).is_cuda
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not torch.cuda.is_available() and choose_device().device == "cpu"


def test_nothing_is_left_behind():
    plain = (torch.tensor, torch.Tensor.to, torch.Generator, torch.cuda.is_available, torch.optim.AdamW)
    with simulated_cuda():
        assert torch.cuda.is_available() and torch.tensor is not plain[0]
        with pytest.raises(RuntimeError, match="simulated already"), simulated_cuda():
            pass
    assert (torch.tensor, torch.Tensor.to, torch.Generator, torch.cuda.is_available, torch.optim.AdamW) == plain
    model = nn.Linear(2, 2)
    model.weight.data = torch.zeros(2, 2)
    assert not isinstance(model.double().weight, CudaTensor)
    with pytest.raises((RuntimeError, NotImplementedError, AssertionError)):
        torch.ones(1, device="cuda")


def test_a_variable_switches_it_on_in_another_process(monkeypatch):
    monkeypatch.setenv("ARC_SIMULATED_CUDA", "9.0:2:1.5")
    program = (
        "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_capability(), torch.cuda.mem_get_info())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.stdout.strip() == f"2 (9, 0) ({3 * 2**29}, {3 * 2**29})", done.stderr
