"""Which architectures the suite computes exactly: tiny random models, saved, loaded through the door, compared.

For each, with the vocabulary whole and cut: the logits of the model's own forward (loaded by transformers alone)
against the suite's at every depth (head; top_m over cached states; full), answers written on a KV cache against answers
without one, and an adapter with every number moved, exported and loaded by PEFT. *exact*: all agree to 1e-4; *refused*:
one line says what the suite cannot do, and the rest agrees; *wrong*: another number, and nothing said. Also how many
prompt forms are spelled byte for byte, and how many tokenizers, built in the ways people bring, are read right.

Prints `exact`, `refused`, `wrong`, `forms_exact`, `tokenizers_ok` (of `tokenizers`), `largest_distance`, `passed`.
Bounds: exact ≥ 16, wrong = 0, forms_exact = 3, every tokenizer.
"""

import json
import string
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import transformers as hf
from prompt_forms import forms_exact
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from arc_helpers.arc import Pair, Task
from arc_helpers.lm.folder import ModelError
from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import encode
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.lm.vocabulary import TokenizerError
from arc_helpers.runs import choose_device
from arc_helpers.ttt.cache import answer_logits, prepare
from arc_helpers.ttt.decode import generate_with_lora
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel
from arc_helpers.ttt.peft_io import save_slot

TOLERANCE = 1e-4  # of ‖ours − its own‖ / ‖its own‖, float32
SYMBOLS = "zyx9\n8O7I6543210abc"  # ids that are not in the order of the colours
SHOWN = (Pair([[1, 2], [3, 4]], [[5, 0], [6, 7]]), Pair([[8, 9, 0]], [[0, 1, 1]]))
TASK = Task("t", SHOWN, (Pair([[2, 2], [1, 7]], [[3, 4]]),))

WIDTHS = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5, "num_attention_heads": 4}
SMALL = {**WIDTHS, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2}
HEADS = {**SMALL, "head_dim": 16}
WINDOW, ALL = "sliding_attention", "full_attention"
TURNS = {"sliding_window": 8, "layer_types": [WINDOW, ALL, WINDOW, ALL, WINDOW]}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GRANITE = {
    "embedding_multiplier": 12.0,
    "logits_scaling": 8.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.1,
}
GPT2 = {"n_embd": 64, "n_layer": 5, "n_head": 4, "n_positions": 512, "initializer_range": 0.2}

#: name: (config class, its values)
ARCHITECTURES: dict[str, tuple[type, dict]] = {
    "Llama": (hf.LlamaConfig, SMALL),
    "Llama 3, tied, scaled rope": (
        hf.LlamaConfig,
        {**SMALL, "tie_word_embeddings": True, "rope_parameters": {**LLAMA3, "original_max_position_embeddings": 128}},
    ),
    "Qwen2": (hf.Qwen2Config, SMALL),
    "Qwen2, sliding": (
        hf.Qwen2Config,
        {**SMALL, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    ),
    "Qwen3": (hf.Qwen3Config, HEADS),
    "Qwen3-MoE": (hf.Qwen3MoeConfig, {**HEADS, **EXPERTS}),
    "Mistral": (hf.MistralConfig, {**HEADS, "sliding_window": None}),
    "Mistral, window": (hf.MistralConfig, {**HEADS, "sliding_window": 8}),
    "Gemma 2": (hf.Gemma2Config, {**HEADS, **TURNS, "query_pre_attn_scalar": 16}),
    "Gemma 3": (
        hf.Gemma3TextConfig,
        {**HEADS, **TURNS, "query_pre_attn_scalar": 16, "final_logit_softcapping": 10.0},
    ),
    "Phi-3": (hf.Phi3Config, SMALL),
    "SmolLM3": (hf.SmolLM3Config, {**SMALL, "no_rope_layers": [1, 0, 1, 1, 0]}),
    "OLMo-2": (hf.Olmo2Config, SMALL),
    "Granite": (hf.GraniteConfig, {**SMALL, **GRANITE}),
    "Cohere": (hf.CohereConfig, {**SMALL, "logit_scale": 0.0625}),
    "GLM-4": (hf.Glm4Config, HEADS),
    "Nemotron": (hf.NemotronConfig, SMALL),
    "GPT-2": (hf.GPT2Config, GPT2),
    "GPT-NeoX": (hf.GPTNeoXConfig, {**WIDTHS, "max_position_embeddings": 512, "initializer_range": 0.2}),
}


def tokens_of(symbols: str = SYMBOLS) -> PreTrainedTokenizerFast:
    """One token a character, behind the three special ones."""
    words = ["<unk>", "<s>", "</s>", *symbols]
    core = Tokenizer(models.WordLevel({s: i for i, s in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@torch.no_grad()
def make(name: str, folder: Path) -> Path:
    """A random model of an architecture as a folder; its norms are not all ones."""
    kind, values = ARCHITECTURES[name]
    tokenizer = tokens_of()
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    torch.manual_seed(0)
    config = kind(vocab_size=len(tokenizer), **special, **values)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim == 1 and "bias" not in parameter_name:
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def distances(folder: Path, lm: LoadedLM, modes: list[str]) -> dict[str, float]:
    """How far each way of the suite is from the model's own logits."""
    own, _ = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    whole = PromptForm.choose(tokens_of(), "matrix")
    example = encode(TASK, whole)
    expected = own.eval()(input_ids=torch.from_numpy(example.input_ids)[None]).logits[0]
    if lm.head.weight.shape[0] != expected.shape[-1]:
        expected = expected[:, whole.token_ids]
    asked = encode(TASK, lm.prompt_form)
    answer = torch.from_numpy(asked.labels[1:] >= 0).nonzero()[:, 0]
    found = {}
    for mode in modes:
        model = MultiLoRAModel(lm, ["a"], mode=mode, r=4)
        logits, _ = answer_logits(model, prepare(model, [[asked]])[0], torch.tensor([0]))
        found[mode] = relative(logits[0], expected[answer])
        found[f"{mode}, whole"] = relative(model(torch.from_numpy(asked.input_ids)[None])[0], expected)
    prompts, room = [asked.input_ids[: asked.prompt_length], asked.input_ids[: asked.prompt_length - 9]], [9, 9]
    cached, plain = (generate_with_lora(model, prompts, [0, 0], room, use_cache=use) for use in (True, False))
    pairs = list(zip(cached, plain, strict=True))
    found["written"] = max(abs(a.logprob - b.logprob) / 10 if a.token_ids == b.token_ids else 9.0 for a, b in pairs)
    return found


@torch.no_grad()
def peft_difference(lm: LoadedLM, modes: list[str], room: Path) -> float:
    """Adapters with every number moved, exported, loaded by PEFT: the largest distance of their logits."""
    import copy

    import peft

    worst, ids = 0.0, torch.from_numpy(encode(TASK, lm.prompt_form).input_ids)[None]
    for mode in modes:
        model = MultiLoRAModel(lm, ["a"], mode=mode, r=4)
        torch.manual_seed(5)
        model.bank.flat.add_(0.05 * torch.randn_like(model.bank.flat))
        ours = model(ids)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tied weights
            loaded = peft.PeftModel.from_pretrained(copy.deepcopy(lm.model), save_slot(model, 0, room / mode)).eval()
            worst = max(worst, relative(loaded(input_ids=ids).logits[0], ours[0]))
    return worst


def relative(ours: torch.Tensor, own: torch.Tensor) -> float:
    return ((ours - own).norm() / own.norm()).item()


def judge(name: str, room: Path) -> tuple[str, float, str]:
    """(exact, refused or wrong; the largest distance; what was said) of an architecture."""
    folder = make(name, room / "model")
    worst, said = 0.0, ""
    for trim in (False, True):
        try:
            lm = load_causal_lm(folder, device=choose_device("cpu").device, trim_vocab=trim)
        except (ModelError, TokenizerError) as error:
            return "refused", float("nan"), str(error)
        modes = []
        for mode in MODES:
            try:
                MultiLoRAModel(lm, ["a"], mode=mode, r=4)
                modes.append(mode)
            except ValueError as error:
                said = str(error)
        found = distances(folder, lm, modes) | {"peft": peft_difference(lm, modes, room / f"adapter{trim}")}
        worst = max(worst, *found.values())
    if worst > TOLERANCE:
        return "wrong", worst, str({way: f"{distance:.1e}" for way, distance in found.items()})
    return ("refused" if said else "exact"), worst, said


# Tokenizers


def byte_level(merges=(), split: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2, Llama 3 and Qwen have it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {s: i for i, s in enumerate([*alphabet, *dict.fromkeys(a + b for a, b in merges), "<|end|>"])}
    core = Tokenizer(models.BPE(words, list(merges)))
    first = [pre_tokenizers.Split(Regex(split), behavior="isolated")] if split else []
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [*first, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")


def sentence_piece() -> PreTrainedTokenizerFast:
    """BPE with a dummy prefix space and byte fallback, as Llama 2 has it: a newline is the token <0x0A>."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *string.digits, *string.ascii_letters]
    core = Tokenizer(models.BPE({s: i for i, s in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


PAIRS = [(a, b) for a in string.digits for b in string.digits]
TRIPLES = [*PAIRS, *((a + b, c) for a, b in PAIRS for c in string.digits)]
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjklmnpqrstuvwxyz"
#: how it is built: (tokenizer, the prompt form that is found; None: refused)
TOKENIZERS: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], str | None]] = {
    "Llama 3: digits by threes": (lambda: byte_level(TRIPLES, r"\p{N}{1,3}|\n+|[^\p{N}\n]+"), "suite"),
    "Qwen2, Qwen3: every digit alone": (
        lambda: byte_level([("1", "2"), ("Ċ", "Ċ")], r"\p{N}|\n+|[^\p{N}\n]+"),
        "suite",
    ),
    "SentencePiece, dummy prefix": (sentence_piece, "suite"),
    "byte-level BPE": (byte_level, "suite"),
    "the suite's 16": (arc_tokenizer, "suite"),
    "the ARChitects' 64": (lambda: tokens_of(f"{LETTERS}IO+/-=0123456789\n"), "architects"),
    "no newline": (lambda: tokens_of("0123456789IO"), None),
}


def reads(tokenizer: PreTrainedTokenizerFast, expected: str | None) -> bool:
    """Whether a tokenizer is found to spell the form, each symbol by the very token that stands for it."""
    try:
        form = PromptForm.choose(tokenizer, "matrix")
    except TokenizerError:
        return expected is None
    names = tokenizer.convert_ids_to_tokens([*form.digits, form.row_end])
    return form.name == expected and "".join(names[:10]) == string.digits and names[10] in ("\n", "Ċ", "<0x0A>")


def main() -> None:
    hf.utils.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    counts = {"exact": 0, "refused": 0, "wrong": 0}
    largest = 0.0
    for name in ARCHITECTURES:
        with tempfile.TemporaryDirectory() as room:
            verdict, distance, said = judge(name, Path(room))
        counts[verdict] += 1
        largest = max(largest, distance if verdict == "exact" else 0.0)
        print(f"{name:<28} {verdict:<8} {distance:.1e} {said}", flush=True)
    read = {name: reads(build(), expected) for name, (build, expected) in TOKENIZERS.items()}
    for name, right in read.items():
        print(f"{name:<34} {'as it should be' if right else 'WRONG'}")
    result = {**counts, "architectures": len(ARCHITECTURES), "forms_exact": forms_exact()}
    result |= {"tokenizers_ok": sum(read.values()), "tokenizers": len(read), "largest_distance": largest}
    right = result["forms_exact"] == 3 and all(read.values())
    result["passed"] = counts["exact"] >= 16 and counts["wrong"] == 0 and right
    print(json.dumps(result))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
