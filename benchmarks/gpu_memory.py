"""What test-time training of a large base takes on a GPU, counted without one.

The real code at the real widths on torch's `meta` device, every tensor that lives counted, in 4 bits as bitsandbytes
keeps it, attention by the fused kernel; and the same by the model of memory that a run and the planner plan with. What
a CUDA kernel allocates inside itself is not counted. A slot's activations are all that lives at the peak of a step
beside weights, adapter, gradient and moments.

Bounds: Qwen2-7B in full depth, rank 32: activations of a slot <= 1.5 GiB at 2,048 tokens and <= 3 GiB at 4,096;
everything of one slot at 4,096 tokens <= 14 GiB (a T4 has 14.6), of two <= 21 GiB (an L4 has 22); the model of memory
within 15 % for three shapes. Computed, on the CPU: a step with activation checkpointing <= 1.4 times the plain one (CPU
seconds, median of interleaved repeats), its gradients within 1e-12 in float64.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from arc_helpers.lm.loading import LoadedLM, trim_vocabulary
from arc_helpers.lm.memory import GIB
from arc_helpers.lm.prompt import Encoded
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.ttt.cache import LayerStates, slot_losses
from arc_helpers.ttt.decode import Writing
from arc_helpers.ttt.group import new_model
from arc_helpers.ttt.limits import footprint_of
from arc_helpers.ttt.meter import LiveMemory
from arc_helpers.ttt.multilora import MultiLoRAModel
from arc_helpers.ttt.optim import MultiLoraAdamW
from arc_helpers.ttt.settings import TTTSettings

#: public models, by their config.json
SHAPES: dict[str, PreTrainedConfig] = {
    "qwen2_7b": Qwen2Config(
        **{"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
        **{"num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768},
    ),
    "llama_3_8b": LlamaConfig(
        **{"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192},
    ),
    "qwen3_4b": Qwen3Config(
        **{"vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
        max_position_embeddings=32768,
    ),
}
REPEATS = 9


@dataclass(frozen=True)
class Measured:
    """Bytes beside the weights: adapters with gradients and moments, the peak of a step, and the forecast of it."""

    bank: int
    peak: int
    forecast: int


def on_meta(config: PreTrainedConfig, four_bit: bool = True) -> LoadedLM:
    """A base of that shape without numbers, its vocabulary trimmed, in float16 and, but for that, in 4 bits."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
        if four_bit:
            _quantise(model)
        model.eval().requires_grad_(False)
        tokenizer = arc_tokenizer()
        form = trim_vocabulary(model, PromptForm.from_tokenizer(tokenizer))
    return LoadedLM(model, tokenizer, form, config.model_type, 8192, torch.device("meta"), torch.float16)


def _quantise(model: nn.Module) -> None:
    """Every linear map but the head as bitsandbytes' NF4 with double quantisation, on `meta`."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, linear in list(model.named_modules()):
        if not isinstance(linear, nn.Linear) or "lm_head" in name:
            continue
        n, (rows, columns) = linear.weight.numel(), linear.weight.shape
        packed = Linear4bit(columns, rows, bias=linear.bias is not None, compute_dtype=torch.float16)
        scales = QuantState(
            absmax=torch.empty(-(-n // 64 // 256)), code=torch.empty(256), blocksize=256, dtype=torch.float32
        )
        state = QuantState(
            absmax=torch.empty(n // 64, dtype=torch.uint8),
            shape=linear.weight.shape,
            code=torch.empty(16),
            blocksize=64,
            quant_type="nf4",
            dtype=torch.float16,
            offset=torch.empty(()),
            state2=scales,
        )
        numbers = torch.empty(n // 2, 1, dtype=torch.uint8)
        packed.weight = Params4bit(numbers, requires_grad=False, quant_state=state, bnb_quantized=True)
        if linear.bias is not None:
            packed.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, packed)
    model.is_loaded_in_4bit = True


def weight_bytes(lm: LoadedLM) -> int:
    """Of all weights, 4-bit scales included."""
    total = sum(tensor.nbytes for tensor in (*lm.model.parameters(), *lm.model.buffers()))
    states = [state for p in lm.model.parameters() if (state := getattr(p, "quant_state", None)) is not None]
    return total + sum(state.absmax.nbytes + state.state2.absmax.nbytes for state in states)


@contextmanager
def fused_attention() -> Iterator[None]:
    """`meta` would take the plain kernel: this is the fused one that a T4 takes, and what it keeps for backward."""
    plain = F.scaled_dot_product_attention

    def fused(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False) -> Tensor:
        if enable_gqa:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        options = (attn_mask, torch.is_grad_enabled(), dropout_p, is_causal)
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, *options, scale=scale)[0]

    F.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


def sequence(tokens: int, seed: int = 0) -> Encoded:
    """Random colours, the last quarter of which is the answer."""
    ids = np.random.default_rng(seed).integers(0, 10, tokens)
    labels = ids.copy()
    labels[: tokens * 3 // 4] = -100
    return Encoded(ids, labels, tokens * 3 // 4)


def measured(
    lm: LoadedLM, *, slots: int, tokens: int, checkpointing: bool = True, mode: str = "full", r: int = 32
) -> Measured:
    """One training step of `slots` adapters on `meta`."""
    settings = TTTSettings(r=r, mode=mode)
    with fused_attention(), LiveMemory() as live:
        model = new_model(lm, [str(k) for k in range(slots)], settings)
        model.activation_checkpointing = checkpointing
        optimizer = MultiLoraAdamW(model.bank, 1e-3)
        bank, example = live.now, sequence(tokens)
        if mode == "top_m":
            width = lm.model.config.hidden_size
            example = LayerStates(torch.empty(tokens, width, dtype=lm.dtype, device="meta"), example)
        slot_losses(model, [example] * slots, model.rows()).sum().backward()
        optimizer.step()
    return Measured(bank, live.peak, footprint_of(lm, settings).training(slots, tokens, checkpointing))


def answering(lm: LoadedLM, rows: int, tokens: int) -> Measured:
    """Reading `rows` prompts of `tokens` with one adapter, and writing two tokens, on `meta`."""
    settings = TTTSettings(r=32, mode="full")
    with fused_attention(), torch.no_grad(), LiveMemory() as live:
        model = new_model(lm, ["a"], settings)
        model.bank.free_gradients()
        bank = live.now
        writing = Writing(model, [sequence(tokens).input_ids] * rows, [0] * rows)
        with model.attached():
            for _ in range(2):
                writing.scores()
                writing.push(torch.zeros(rows, dtype=torch.long, device="meta"))
    return Measured(bank, live.peak, footprint_of(lm, settings).answering(1, rows, tokens, 0))


def forecast_errors() -> dict[str, float]:
    """{shape: the largest relative error of the forecast}, over trainings of three sizes and answers of two."""
    errors = {}
    for name, config in SHAPES.items():
        lm = on_meta(config)
        found = [measured(lm, slots=1, tokens=1024, checkpointing=False), measured(lm, slots=1, tokens=4096)]
        found += [measured(lm, slots=2, tokens=2048), answering(lm, 1, 4096), answering(lm, 8, 2048)]
        weights = weight_bytes(lm)
        errors[name] = max(abs(m.forecast - m.peak) / (weights + m.peak) for m in found)
        beside = max(abs(m.forecast - m.peak) / m.peak for m in found)
        print(f"{name}: forecast within {errors[name]:.1%}, weights included; {beside:.1%} beside them", flush=True)
    return errors


def small_lm(dtype: torch.dtype) -> LoadedLM:
    """A frozen Qwen2 of an eighth of the 7 B's widths, with random numbers."""
    torch.manual_seed(0)
    shape = {"hidden_size": 448, "intermediate_size": 2368, "num_hidden_layers": 4, "vocab_size": 16}
    config = Qwen2Config(**shape, num_attention_heads=7, num_key_value_heads=1)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval().requires_grad_(False)
    tokenizer = arc_tokenizer()
    form = PromptForm.from_tokenizer(tokenizer)
    return LoadedLM(model, tokenizer, form, "qwen2-small", 2048, model.device, dtype)


def gradient_error() -> float:
    """The largest difference of a gradient with and without checkpointing, in float64."""
    model, found = MultiLoRAModel(small_lm(torch.float64), ["a", "b"], r=8, mode="full", dtype=torch.float64), []
    with torch.no_grad():
        model.bank.flat.add_(0.05 * torch.randn(model.bank.flat.shape, dtype=torch.float64))
    for checkpointing in (False, True):
        model.activation_checkpointing = checkpointing
        model.bank.grad.zero_()
        slot_losses(model, [sequence(96, 1), sequence(64, 2)], model.rows()).sum().backward()
        found.append(model.bank.grad.clone())
    return (found[0] - found[1]).abs().max().item()


def time_ratio() -> float:
    """CPU seconds of a step with checkpointing over those without, median of interleaved pairs."""
    model, ratios = MultiLoRAModel(small_lm(torch.float32), ["a", "b"], r=16, mode="full"), []
    for repeat in range(REPEATS + 1):
        seconds = []
        for checkpointing in (False, True):
            model.activation_checkpointing = checkpointing
            start = time.process_time()
            slot_losses(model, [sequence(512, 1), sequence(512, 2)], model.rows()).sum().backward()
            seconds.append(time.process_time() - start)
        if repeat:
            ratios.append(seconds[1] / seconds[0])
    return median(ratios)


def main() -> None:
    torch.set_num_threads(1)
    lm = on_meta(SHAPES["qwen2_7b"])
    weights = weight_bytes(lm)
    plain, short = measured(lm, slots=1, tokens=2048, checkpointing=False), measured(lm, slots=1, tokens=2048)
    long, two = measured(lm, slots=1, tokens=4096), measured(lm, slots=2, tokens=4096)
    answer = answering(lm, 1, 4096)
    errors = forecast_errors()
    result = {
        "qwen2_7b_t2048_gib": (short.peak - short.bank) / GIB,
        "qwen2_7b_t2048_plain_gib": (plain.peak - plain.bank) / GIB,
        "qwen2_7b_t4096_gib": (long.peak - long.bank) / GIB,
        "qwen2_7b_t4_total_gib": (weights + max(long.peak, answer.peak)) / GIB,
        "qwen2_7b_l4_k2_total_gib": (weights + max(two.peak, answer.peak)) / GIB,
        "checkpoint_time_ratio": time_ratio(),
        "checkpoint_gradient_error": gradient_error(),
        "forecast_error": max(errors.values()),
    }
    bounds = {
        **{"qwen2_7b_t2048_gib": 1.5, "qwen2_7b_t4096_gib": 3.0, "qwen2_7b_t4_total_gib": 14.0},
        **{"qwen2_7b_l4_k2_total_gib": 21.0, "checkpoint_time_ratio": 1.4, "checkpoint_gradient_error": 1e-12},
        "forecast_error": 0.15,
    }
    result["passed"] = all(result[name] <= bound for name, bound in bounds.items())
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
