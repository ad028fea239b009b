"""Is the bridge between language model and TRM sound? Exactness on tiny random models; memory of an 8 B one on a GPU.

For GridLM, Llama and Qwen2 models and every way into TRM: after a joint step of two attempts every trained number has a
finite gradient other than zero, and the language model's bytes are the same (SHA-256). Finite differences in float64 of
the loss by a prefix, by both starts, and through two attempts. Ragged batches against rows read alone. Predictions of
tasks whose answers are poisoned or taken away.

    python benchmarks/hybrid_checks.py [--shape llama-8b]    # also a joint step at that shape: random 4-bit weights

With a GPU the shape is measured at batch 1, layers checkpointed (bound: 24 GB); without one it is "not measured".
`--shape tiny` runs that code on a CPU, where only its time means anything.
"""

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from arc_helpers.arc import Pair, Task
from arc_helpers.hybrid.adapters import TextToLatentAdapter, naive_parameters
from arc_helpers.hybrid.attempts import solve
from arc_helpers.hybrid.checks import finite_difference_error, in_float64, weights_hash
from arc_helpers.hybrid.feedback import Attempt
from arc_helpers.hybrid.model import HybridConfig, HybridModel
from arc_helpers.hybrid.questions import Example, as_batch, labels_of, questions_of
from arc_helpers.hybrid.states import read
from arc_helpers.hybrid.tiny import KINDS, letter_tokenizer, tiny_examples, tiny_lm, tiny_trm
from arc_helpers.hybrid.train import JointConfig, JointTrainer
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.lora import checkpoint_layers
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.runs import choose_device
from arc_helpers.trm import TRM, TRMConfig
from arc_helpers.trm.loop import gradient_report
from arc_helpers.trm.loss import cell_loss

MODES = ("prefix", "carry", "both")
GB = 24
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
EXAMPLES = tiny_examples(6)
QUESTIONS = [example.question for example in EXAMPLES]


def joint(kind: str, mode: str, trm: dict | None = None, lm: LoadedLM | None = None) -> HybridModel:
    """A tiny joint model with open gates."""
    lm = lm or tiny_lm(kind)
    model = HybridModel(lm, tiny_trm(**(trm or {})), HybridConfig(canvas_side=3, mode=mode))
    with torch.no_grad():
        for gate in model.to_latent.gates.values():
            gate.normal_(0, 0.5)
    return model.eval()


def one_step(kind: str, mode: str) -> tuple[bool, bool]:
    """(every trained number has a gradient, the language model is the same) after a step of two attempts."""
    model = joint(kind, mode)
    before = weights_hash(model.lm.model)
    trainer = JointTrainer(model, EXAMPLES, JointConfig(batch_size=6, max_attempts=2))
    loss, _ = trainer.loss(EXAMPLES, attempts=2)
    loss.backward()
    good = not {"none", "zero", "not finite"} & set(gradient_report(model).values())
    for optimizer in trainer.optimizers:
        optimizer.step()
    unchanged = weights_hash(model.lm.model) == before and all(p.grad is None for p in model.lm.model.parameters())
    return good, unchanged


def largest_fd_error(kind: str) -> float:
    """Of prefix, z_H, z_L and the chain of two attempts. One segment: between two the history is cut on purpose."""
    lm = tiny_lm(kind)
    with in_float64(lm.model):
        model = joint(kind, "both", {"halt_max_steps": 1}, replace(lm, dtype=torch.float64)).double()
        batch, labels, states = as_batch(QUESTIONS, 3), labels_of(EXAMPLES, 3), model.first_states(QUESTIONS)
        history = [[Attempt(1, example.answer, 0.5, 0.1, 1)] for example in EXAMPLES]
        prefix, carry = model.condition(batch, states)

        def loss(segment):
            return cell_loss(segment.logits, labels, "softmax").mean() + segment.halt.square().mean()

        def two_attempts(first):
            thought = model.trm(carry, batch, first).carry.latents
            return loss(model.segments(batch, model.next_states(QUESTIONS, history, thought))[0][-1])

        return max(
            finite_difference_error(lambda x: loss(model.trm(carry, batch, x)), prefix),
            finite_difference_error(lambda x: loss(model.trm(replace(carry, z_H=x), batch, prefix)), carry.z_H),
            finite_difference_error(lambda x: loss(model.trm(replace(carry, z_L=x), batch, prefix)), carry.z_L),
            finite_difference_error(two_attempts, prefix),
        )


@torch.no_grad()
def ragged_difference(kind: str) -> float:
    """Largest difference of a state between a padded batch with soft tokens and its rows alone."""
    model = joint(kind, "prefix")
    prompts, soft = model.prompts(QUESTIONS), 0.2 * torch.randn(len(QUESTIONS), 4, 32)
    together, worst = read(model.lm, prompts, soft).hidden, 0.0
    for row, prompt in enumerate(prompts):
        alone = read(model.lm, [prompt], soft[row : row + 1]).hidden[0]
        worst = max(worst, (together[row, -len(alone) :] - alone).abs().max().item())
    return worst


def same_under_poison(kind: str) -> bool:
    """Whether the answers are the same bytes when the labels are right, wrong, or gone."""
    model, said = joint(kind, "prefix"), []
    for poison in (lambda a: a, lambda a: 9 - a, lambda a: None):
        tasks = [
            Task(e.question.task_id, e.question.demonstrations, (Pair(e.question.input, poison(e.answer)),))
            for e in EXAMPLES
        ]
        asked = [question for task in tasks for question in questions_of(task)]
        answers = solve(model, asked, attempts=3, views=2, demonstrations=True, stop=False)
        said.append(json.dumps(answers, default=lambda x: x.tolist() if isinstance(x, np.ndarray) else vars(x)))
    return len(set(said)) == 1


def four_bit_llama(shape: dict, device: str) -> LoadedLM:
    """A Llama with random weights, its matrices in 4 bits from the start: it is never in memory in full."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    tokenizer = letter_tokenizer()
    wide = shape["hidden_size"] >= 4096
    config = LlamaConfig(
        vocab_size=128_256 if wide else len(tokenizer),
        num_key_value_heads=shape["num_attention_heads"] // 4 or 1,
        max_position_embeddings=8192,
        **shape,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    for layer in model.model.layers:
        for module in (layer.self_attn, layer.mlp):
            for name, old in [(n, m) for n, m in module.named_children() if isinstance(m, nn.Linear)]:
                new = Linear4bit(
                    old.in_features, old.out_features, bias=False, compute_dtype=torch.bfloat16, device="meta"
                )
                weight = 0.02 * torch.randn(old.weight.shape, dtype=torch.bfloat16)
                new.weight = Params4bit(weight, requires_grad=False, quant_type="nf4").to(device)
                new.support_avx512bf16_for_cpu = False
                setattr(module, name, new)
    for norm in [m for m in model.modules() if type(m).__name__ == "LlamaRMSNorm"]:
        norm.weight = nn.Parameter(torch.ones_like(norm.weight, device=device))
    rows = 0.02 * torch.randn(config.vocab_size, config.hidden_size, dtype=torch.bfloat16, device=device)
    model.model.embed_tokens.weight = nn.Parameter(rows)
    model.lm_head = nn.Identity()  # states are all that is read
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
    model.eval().requires_grad_(False)
    prompt_form = PromptForm.from_tokenizer(tokenizer)
    return LoadedLM(model, tokenizer, prompt_form, "random Llama", 8192, torch.device(device), torch.bfloat16)


def memory_of(shape: str) -> dict:
    """Peak memory and time of a joint step of two attempts at batch 1, the second time it is done."""
    device = choose_device().device
    if shape == "none" or (shape == "llama-8b" and device == "cpu"):
        return {"joint_step_gib": "not measured", "joint_step_seconds": "not measured"}
    lm = checkpoint_layers(four_bit_llama(LLAMA_8B if shape == "llama-8b" else TINY, device))
    side = 30 if shape == "llama-8b" else 6
    trm = TRM(TRMConfig(halt_max_steps=4) if shape == "llama-8b" else TRMConfig.preset("tiny"))
    model = HybridModel(lm, trm, HybridConfig(canvas_side=side)).to(device)
    rng, examples = np.random.default_rng(0), []
    for number in range(2):
        pairs = [Pair(g, g[::-1]) for g in rng.integers(0, 10, size=(3, side // 2, side // 2))]
        [question] = questions_of(Task(f"step{number}", pairs[:2], (pairs[2],)))
        examples.append(Example(question, pairs[2].output))
    trainer = JointTrainer(model, examples, JointConfig(batch_size=1, feedback_every=1))
    trainer.run(steps=1)
    began = time.monotonic()
    trainer.run(steps=1)
    seconds = time.monotonic() - began
    gib = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    return {
        "joint_step_gib": round(gib, 2) if device == "cuda" else "not measured",
        "joint_step_seconds": round(seconds, 2),
        "joint_step_tokens": len(model.prompts([examples[0].question])[0]),
        "joint_step_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "fits_24_gb": bool(gib * 2**30 < GB * 1e9) if device == "cuda" else "not measured",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=("none", "tiny", "llama-8b"), default="llama-8b")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = [one_step(kind, mode) for kind in KINDS for mode in MODES]
    found = {
        "llm_unchanged": all(unchanged for _, unchanged in steps),
        "all_trainable_have_gradient": all(good for good, _ in steps),
        "steps_checked": len(steps),
        "max_fd_error": max(largest_fd_error(kind) for kind in ("gridlm", "llama")),
        "ragged_difference": max(ragged_difference(kind) for kind in KINDS),
        "poisoned_labels_same_predictions": all(same_under_poison(kind) for kind in KINDS),
        "naive_parameters": naive_parameters(4096, 900, 512),
        "adapter_parameters": sum(p.numel() for p in TextToLatentAdapter(4096, TRMConfig()).parameters()),
    }
    found["passed"] = (
        found["llm_unchanged"]
        and found["all_trainable_have_gradient"]
        and found["poisoned_labels_same_predictions"]
        and found["max_fd_error"] <= 1e-6
        and found["ragged_difference"] <= 1e-5
    )
    found |= memory_of(options.shape)
    found["passed"] = found["passed"] and found.get("fits_24_gb") is not False
    print(json.dumps(found))
    sys.exit(not found["passed"])


if __name__ == "__main__":
    main()
