"""Models and ids for the tests of `memory`."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from arc_helpers.memory.adapters import add_adapter
from arc_helpers.memory.meta import Batch, MetaConfig, MetaTrainer
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def small_model(seed: int = 0, **changes) -> TTTForCausalLM:
    """Two learning blocks of four, window 12, batches of 8, vocabulary 50: large weights, so that every path counts."""
    torch.manual_seed(seed)
    defaults = {"sliding_window": 12, "ttt_batch": 8, "ttt_layers": 2, "initializer_range": 0.15, "inner_lr": 0.3}
    return TTTForCausalLM(TTTConfig.preset("tiny", 50, **{**defaults, **changes})).eval()


def random_ids(rows: int, length: int, seed: int = 1, vocab: int = 50) -> torch.Tensor:
    """Token ids [rows, length]."""
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(seed))


def trained(kind: str):
    """A small model with an adapter that has learned a little, wrapped."""
    model = small_model(ttt_layers=1)
    wrapped = add_adapter(model, kind)
    config = MetaConfig(steps=3, lr=0.05, warmup_steps=1)
    MetaTrainer(wrapped.get_base_model(), lambda step: Batch(random_ids(2, 33, seed=step)), config).run()
    return wrapped


def byte_tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer, a token a byte, with a chat template; it writes any text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **names)


def plain_model(seed: int = 0, vocab: int = 258) -> LlamaForCausalLM:
    """An ordinary tiny Llama for `byte_tokenizer`, with a context of 256."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=vocab, max_position_embeddings=256, initializer_range=0.1, **sizes)
    return LlamaForCausalLM(config).eval()
