"""TTT-E2E (arXiv 2512.23675) on transformers' Qwen3: sliding-window attention, and MLPs that learn while they read.

In the last quarter of the blocks a SwiGLU `mlp_ttt` stands before the block's own `mlp_static`, each behind its own
norm. `mlp_ttt` is the fast memory: the inner loop moves it at test time, and nothing else; `mlp_static` keeps what
pretraining knew. All MLPs are narrowed so that the parameters together are those of the plain model.

Importing this module registers `model_type = "ttt_e2e"`, after which `AutoModelForCausalLM.from_pretrained` loads its
folders without remote code. The ordinary forward of such a model is the model with test-time training off.
"""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3Model
from transformers import initialization as init
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RMSNorm

from arc_helpers.lm.door import open_folder, open_model
from arc_helpers.lm.folder import read_json
from arc_helpers.runs import choose_device

# plain_mlp: the width of the MLPs of the plain Qwen3 with as many parameters. fast_times: the fast MLP is so many times
# as wide as the others; in a model this small, what it holds before facts disturb each other is what limits recall.
SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "plain_mlp": 80},
    "nano": {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "plain_mlp": 240, "fast_times": 2},
    "small": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "plain_mlp": 640},
    "125m": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "plain_mlp": 2048},
}
FAST = ("gate", "up", "down")  # the tensors of one mlp_ttt, in the order of every list of fast weights


class TTTConfig(Qwen3Config):
    """Qwen3's config with a window in every layer and what the inner loop needs.

    sliding_window: k, tokens a layer attends to, itself included. ttt_batch: b, tokens an inner step.
    ttt_layers: how many of the last blocks learn; None = a quarter. ttt_intermediate_size: width of their fast MLP;
    None = that of the others. inner_lr: where the inner learning rates start; learn_inner_lr: they are trained, one a
    tensor. inner_clip: largest norm of a sequence's inner gradient; None = none (the paper: 1.0).
    Raises ValueError where k < b: tokens of one batch could not see the one before it.
    """

    model_type = "ttt_e2e"

    sliding_window: int | None = 16
    use_sliding_window: bool = True
    max_window_layers: int = 0  # Qwen3's own 28 would silently mean full attention in a small model
    tie_word_embeddings: bool = True
    ttt_batch: int = 16
    ttt_layers: int | None = None
    ttt_intermediate_size: int | None = None
    inner_lr: float = 0.3
    learn_inner_lr: bool = True
    inner_clip: float | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.ttt_layers is None:
            self.ttt_layers = max(1, self.num_hidden_layers // 4)
        if self.ttt_intermediate_size is None:
            self.ttt_intermediate_size = self.intermediate_size
        if not 1 <= self.ttt_layers <= self.num_hidden_layers:
            raise ValueError(f"ttt_layers = {self.ttt_layers}: must be 1 to {self.num_hidden_layers}")
        if self.ttt_batch < 1:
            raise ValueError(f"ttt_batch = {self.ttt_batch}: must be >= 1")
        if not self.inner_lr > 0:
            raise ValueError(f"inner_lr = {self.inner_lr}: must be > 0 (learning is switched off where a text is read)")
        if self.sliding_window is not None and self.sliding_window < self.ttt_batch:
            raise ValueError(
                f"sliding_window = {self.sliding_window}: must be >= ttt_batch = {self.ttt_batch}, "
                "or tokens learn from targets whose context they cannot see"
            )

    @classmethod
    def preset(cls, size: str, vocab_size: int, **changes) -> "TTTConfig":
        """The config of a named size (`SIZES`). full_attention=True: no window, for the ceiling in comparisons."""
        if size not in SIZES:
            raise ValueError(f"model_size = {size}: must be one of {', '.join(SIZES)}")
        shape = dict(SIZES[size])
        plain, layers, hidden = shape.pop("plain_mlp"), shape["num_hidden_layers"], shape["hidden_size"]
        learning = changes.get("ttt_layers") or max(1, layers // 4)
        times = shape.pop("fast_times", 1)
        narrow = round(plain * layers / (layers + times * learning) / 8) * 8
        if changes.pop("full_attention", False):
            changes |= {"use_sliding_window": False}
        heads = shape["num_attention_heads"]
        shape |= {
            "intermediate_size": narrow,
            "ttt_intermediate_size": times * narrow,
            "head_dim": hidden // heads,
            "num_key_value_heads": heads,
        }
        return cls(vocab_size=vocab_size, **{**shape, **changes})

    @property
    def reach(self) -> int | None:
        """Tokens that information travels by attention alone, L·(k − 1); None without a window."""
        return None if self.sliding_window is None else self.num_hidden_layers * (self.sliding_window - 1)


class FastMLP(nn.Module):
    """SwiGLU whose weights are raw parameters, so that PEFT's "all-linear" leaves them alone.

    They may be replaced for a call by a copy a sequence. log_lr: one learning rate a tensor, as a logarithm.
    """

    def __init__(self, config: TTTConfig):
        super().__init__()
        width, hidden = config.ttt_intermediate_size, config.hidden_size
        self.gate = nn.Parameter(torch.empty(width, hidden))
        self.up = nn.Parameter(torch.empty(width, hidden))
        self.down = nn.Parameter(torch.empty(hidden, width))
        self.log_lr = nn.Parameter(torch.empty(len(FAST)), requires_grad=config.learn_inner_lr)

    def weights(self) -> list[Tensor]:
        """gate, up [width, hidden], down [hidden, width]: where every sequence starts."""
        return [self.gate, self.up, self.down]

    def forward(self, x: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """x [B, T, hidden]; weights: three tensors as in `weights()`, or with a leading B."""
        gate, up, down = weights or self.weights()
        y = x.to(gate.dtype)  # fast weights stay float32 whatever the rest is
        return ((F.silu(y @ gate.mT) * (y @ up.mT)) @ down.mT).to(x.dtype)


class TTTDecoderLayer(Qwen3DecoderLayer):
    """A Qwen3 block with a fast MLP between its attention and its static MLP."""

    def __init__(self, config: TTTConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.ttt_layernorm = Qwen3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp_ttt = FastMLP(config)
        self.mlp_static = self.mlp
        del self.mlp

    def attend(self, hidden: Tensor, **kwargs) -> Tensor:
        """The block up to its first MLP: what does not depend on its own fast weights."""
        return hidden + self.self_attn(hidden_states=self.input_layernorm(hidden), **kwargs)[0]

    def feed(self, hidden: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """The rest of the block, with its own fast weights or the given ones."""
        hidden = hidden + self.mlp_ttt(self.ttt_layernorm(hidden), weights)
        return hidden + self.mlp_static(self.post_attention_layernorm(hidden))

    def forward(self, hidden_states: Tensor, **kwargs) -> Tensor:
        return self.feed(self.attend(hidden_states, **kwargs))


class WindowCache:
    """The last k − 1 keys and values of each layer, [B, heads, ≤ k − 1, head_dim].

    Tensors are replaced, never written into: a shallow copy is a snapshot, and autograd goes through it.
    window None: everything is kept.
    """

    def __init__(self, window: int | None, layers: dict[int, tuple[Tensor, Tensor]] | None = None):
        self.window, self.layers = window, layers or {}

    def copy(self) -> "WindowCache":
        """A snapshot."""
        return WindowCache(self.window, dict(self.layers))

    def length(self, layer: int) -> int:
        """Tokens kept of a layer."""
        return self.layers[layer][0].shape[2] if layer in self.layers else 0

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_args) -> tuple[Tensor, Tensor]:
        """Called by the attention: the kept and the new keys and values together."""
        if layer_idx in self.layers:
            before = self.layers[layer_idx]
            keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
        first = 0 if self.window is None else max(0, keys.shape[2] - self.window + 1)
        self.layers[layer_idx] = (keys[:, :, first:], values[:, :, first:])
        return keys, values


def window_mask(n: int, kept: int, window: int | None, like: Tensor) -> Tensor:
    """Additive mask [1, 1, n, kept + n]: n new tokens see themselves and the window − 1 tokens before them."""
    query = torch.arange(kept, kept + n, device=like.device)[:, None]
    key = torch.arange(kept + n, device=like.device)[None]
    seen = key <= query
    if window is not None:
        seen &= query - key < window
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill(~seen, float("-inf"))[None, None]


class TTTModel(Qwen3Model):
    """Qwen3's stack, cut where the fast weights begin: `prefix` does not depend on them, `suffix` does."""

    config_class = TTTConfig

    def __init__(self, config: TTTConfig):
        super().__init__(config)
        self.first_ttt = config.num_hidden_layers - config.ttt_layers
        for i in range(self.first_ttt, config.num_hidden_layers):
            self.layers[i] = TTTDecoderLayer(config, i)
        expected = "full_attention" if config.sliding_window is None else "sliding_attention"
        if set(config.layer_types) != {expected}:
            raise ValueError(f"layer_types = {config.layer_types}: every layer must be {expected}")
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        PreTrainedModel._init_weights(self, module)
        hidden = self.config.hidden_size
        # A token's own embedding dominates the stream at first, and the fast features are of order 1: then already
        # the first inner steps store something, and meta-training has a memory to improve. With 0.02 everywhere it
        # first has to grow one, and a small model spends most of its run on that.
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=hidden**-0.5)
        elif isinstance(module, FastMLP):
            init.normal_(module.gate, std=hidden**-0.5)
            init.normal_(module.up, std=hidden**-0.5)
            init.normal_(module.down, std=self.config.initializer_range)
            init.constant_(module.log_lr, math.log(self.config.inner_lr))

    @property
    def ttt_layers(self) -> list[TTTDecoderLayer]:
        """The blocks that learn."""
        return list(self.layers[self.first_ttt :])

    def prefix(self, ids: Tensor, cache: WindowCache, position: int) -> Tensor:
        """Hidden states [B, n, hidden] behind the first learning block's attention; ids [B, n] start at `position`."""
        hidden = self.embed_tokens(ids)
        kwargs = self._attention(hidden, cache, position, layer=0)
        for layer in self.layers[: self.first_ttt]:
            hidden = layer(hidden, **kwargs)
        return self.layers[self.first_ttt].attend(hidden, **kwargs)

    def suffix(self, hidden: Tensor, fast: Sequence[Tensor] | None, cache: WindowCache, position: int) -> Tensor:
        """Final hidden states [B, n, hidden] from `prefix`'s.

        fast: three tensors a learning block, in order, each with a leading B; None = the trained ones. cache changes
        only where more than one block learns.
        """
        per_layer = [None if fast is None else fast[3 * i : 3 * i + 3] for i in range(len(self.ttt_layers))]
        hidden = self.layers[self.first_ttt].feed(hidden, per_layer[0])
        # No fused attention has a second derivative, and only these layers' attention is differentiated twice.
        twice = sdpa_kernel(SDPBackend.MATH) if len(per_layer) > 1 else contextlib.nullcontext()
        with twice:
            for layer, weights in zip(self.ttt_layers[1:], per_layer[1:], strict=True):
                kwargs = self._attention(hidden, cache, position, layer.self_attn.layer_idx)
                hidden = layer.feed(layer.attend(hidden, **kwargs), weights)
        return self.norm(hidden)

    def _attention(self, hidden: Tensor, cache: WindowCache, position: int, layer: int) -> dict:
        return {
            "attention_mask": window_mask(hidden.shape[1], cache.length(layer), cache.window, hidden),
            "position_embeddings": self._rotation(hidden, position),
            "past_key_values": cache,
        }

    def _rotation(self, hidden: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """cos and sin [1, n, head size] of the places of hidden [B, n, hidden], in its dtype.

        The angles are float64, on the host, for not every device has it: in float32, as transformers computes them,
        they are off by 0.06 after a million tokens, and a window would no longer see how far apart its tokens are.
        """
        places = torch.arange(position, position + hidden.shape[1], dtype=torch.float64)
        angles = torch.outer(places, self.rotary_emb.inv_freq.to("cpu", torch.float64)).repeat(1, 2)[None]
        scale = self.rotary_emb.attention_scaling
        cos, sin = ((wave * scale).to(hidden.device, hidden.dtype) for wave in (angles.cos(), angles.sin()))
        return cos, sin


class TTTForCausalLM(Qwen3ForCausalLM):
    """The language model. `forward` is Qwen3's own: test-time training off."""

    config_class = TTTConfig

    def __init__(self, config: TTTConfig):
        super().__init__(config)
        self.model = TTTModel(config)
        self.post_init()

    _init_weights = TTTModel._init_weights

    def fast_weights(self) -> list[Tensor]:
        """Where every sequence starts: gate, up, down of each learning block."""
        return [weight for layer in self.model.ttt_layers for weight in layer.mlp_ttt.weights()]

    def inner_lrs(self) -> list[Tensor]:
        """One learning rate a fast tensor, in their order."""
        return [lr for layer in self.model.ttt_layers for lr in layer.mlp_ttt.log_lr.exp()]

    def new_cache(self) -> WindowCache:
        """An empty cache of the model's window."""
        return WindowCache(self.config.sliding_window)


def load_model(folder: str | Path, device: str | None = None) -> TTTForCausalLM:
    """The model of a local Hugging Face folder, float32, for reading. Raises ValueError where it is no such folder.

    device: what `runs.choose_device` prefers; None = the best there is.
    """
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{folder}: is no model folder (config.json is missing)")
    kind = read_json(Path(folder) / "config.json").get("model_type")
    if kind != TTTConfig.model_type:
        raise ValueError(f"{folder}: is a {kind} model: must be {TTTConfig.model_type}")
    opened, where = open_folder(folder, speaks=False), choose_device(device).device
    return open_model(opened, device=where, dtype=torch.float32).requires_grad_(True)  # its inner loop moves weights


AutoConfig.register(TTTConfig.model_type, TTTConfig, exist_ok=True)
AutoModelForCausalLM.register(TTTConfig, TTTForCausalLM, exist_ok=True)
