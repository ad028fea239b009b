"""What the multilora benchmarks compare with: real PEFT, one adapter after another; and the models both sides use."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import IGNORE, Encoded
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.ttt.multilora import MultiLoRAModel, adapted_linears

R, ALPHA, LR, CLIP, DECAY = 16, 32.0, 1e-3, 1.0, 0.01
SIZES = {  # parameters: 5.8 M and 0.28 M, as in the published comparisons with small models
    "5.8M": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 608},
    "0.28M": {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 152},
}


def random_llama(size: str, dtype: torch.dtype = torch.float32) -> LoadedLM:
    """A frozen Llama with random weights."""
    torch.manual_seed(0)
    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=16, max_position_embeddings=1024, num_key_value_heads=shape["num_attention_heads"], **shape
    )
    model = LlamaForCausalLM(config)
    if dtype == torch.float64:  # Llama's own norm computes in float32 whatever it is given
        for name, norm in [(n, m) for n, m in model.named_modules() if n.endswith("norm")]:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon))
    model = model.to(dtype).eval().requires_grad_(False)
    tokenizer = arc_tokenizer()
    prompt_form = PromptForm.from_tokenizer(tokenizer)
    return LoadedLM(model, tokenizer, prompt_form, f"llama-{size}", 1024, model.device, dtype)


def random_sequences(n: int, length: int | tuple[int, int], seed: int) -> list[Encoded]:
    """n sequences of random colours whose last quarter is the answer; of one length, or lengths from a range."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        size = length if isinstance(length, int) else int(rng.integers(*length))
        ids, prompt = rng.integers(0, 10, size), size - size // 4
        labels = ids.copy()
        labels[:prompt] = IGNORE
        made.append(Encoded(ids, labels, prompt))
    return made


class SequentialPeft:
    """K adapters of PEFT's on one base, trained one after another with torch's AdamW and clip.

    They start from the stacked model's first weights.
    """

    def __init__(self, lm: LoadedLM, stacked: MultiLoRAModel):
        names = list(adapted_linears(lm, None))
        config = LoraConfig(r=R, lora_alpha=ALPHA, target_modules=names, lora_dropout=0.0)
        self.model = get_peft_model(lm.model, config, adapter_name="0", autocast_adapter_dtype=False)
        for k in range(1, stacked.num_slots):
            self.model.add_adapter(str(k), config, autocast_adapter_dtype=False)
        self.layers = {name: self.model.base_model.model.get_submodule(name) for name in names}
        self.parameters, self.optimizers = [], []
        for k in range(stacked.num_slots):
            with torch.no_grad():
                for name, layer in self.layers.items():
                    layer.lora_A[str(k)].weight.copy_(stacked.bank[f"{name}.A"][k])
                    layer.lora_B[str(k)].weight.copy_(stacked.bank[f"{name}.B"][k])
            own = [
                p for layer in self.layers.values() for p in (layer.lora_A[str(k)].weight, layer.lora_B[str(k)].weight)
            ]
            self.parameters.append(own)
            self.optimizers.append(torch.optim.AdamW(own, lr=LR, weight_decay=DECAY, foreach=True))

    def step(self, k: int, example: Encoded, lr: float = LR) -> float:
        """One step of adapter k, which is the active one (`activate`)."""
        optimizer = self.optimizers[k]
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        ids, labels = torch.from_numpy(example.input_ids)[None], torch.from_numpy(example.labels)[None]
        logits = self.model(input_ids=ids, use_cache=False).logits[0, :-1]
        loss = nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=IGNORE)  # HF's own is in float32
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters[k], CLIP)
        optimizer.step()
        return loss.item()

    def activate(self, k: int) -> None:
        self.model.set_adapter(str(k))

    def flat(self, k: int) -> torch.Tensor:
        """Adapter k as a row of the stacked model's bank."""
        return torch.cat([p.detach().flatten() for p in self.parameters[k]])


def interleaved(sides: dict[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Process-CPU seconds of each side, `repeats` times in turn, after `warm_up` turns that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm_up + repeats):
        for name, run in sides.items():
            start = time.process_time()
            run()
            if turn >= warm_up:
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(baseline: Sequence[float], ours: Sequence[float]) -> float:
    """Median of the paired ratios: how many times as fast we are."""
    return median(b / o for b, o in zip(baseline, ours, strict=True))
