"""K low-rank adapters on one frozen base, in three depths behind one interface.

`full`   LoRA on every linear layer of the decoder, and embedding, norms and head trained in full where the
         vocabulary is small; everything is run for every step.
`top_m`  the same in the last m layers only; what enters them is computed once a pseudo-task and kept.
`head`   the seed's adapter on the final hidden state, hidden_i = hidden + (lora_alpha / r) · hidden A_i B_i with
         A_i [H, r] and B_i [r, H]; the hidden states at the answer positions are computed once and kept.

Every row of a batch is run through the base on its *own* tokens and its *own* adapter. (A public script of this idea
runs the base on task 0 only; `tests/ttt/test_ttt_multilora.py` fails for that.) The base is never changed: deltas are
added by forward hooks, which are there only while a forward runs, so this works over `Linear4bit`, too. With
`activation_checkpointing` a decoder layer keeps its input alone, and backward runs the layer once more, hooks included.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import Cache

from arc_helpers.lm.decoder import blocks_of, embedding_scale, final_norm_of, finished
from arc_helpers.lm.loading import LoadedLM
from arc_helpers.lm.prompt import IGNORE
from arc_helpers.ttt.bank import Rows, SlotBank

MODES = ("head", "top_m", "full")
#: rows up to which embedding and head are trained in full: those of a vocabulary that spells grids, in any prompt form
SMALL_VOCABULARY = 96

Hooks = Sequence[tuple[nn.Module, Callable]]


class MultiLoRAModel(nn.Module):
    """A frozen LM with `num_slots` adapters; a slot is one adapter's place, as in PEFT's terms.

    names: what each slot belongs to (task ids). A slot's first weights are drawn from its name and the seed
        alone, so a task's result does not depend on which tasks share its group.
    r, lora_alpha, use_rslora: an adapter's output is scaled by lora_alpha / r, or lora_alpha / √r with rsLoRA.
    target_modules: last parts of the names of the linear layers to adapt (None: all of the decoder's layers); embedding
        (`full` only) and head may be among them, and then have a LoRA where they would be trained in full.
    top_m: how many of the last layers adapt in mode "top_m" (None: a quarter of them).
    train_vocab: train embedding (`full` only), norms and head in full; None: where the vocabulary is small.
    activation_checkpointing: keep a decoder layer's input alone for backward, which computes the rest again: a tenth
        of the memory, a third more time, the same gradients. May be changed between forwards.
    dtype: of the adapters and of the logits, whatever the base computes in.
    Raises ValueError, one line, on a bad option.

    Wherever `slots` [S] is asked for, the rows of the batch are S equal blocks, and block i goes through adapter
    slots[i]; None stands for all K in order. `rows(slots)` may be given instead, to work it out only once.
    """

    def __init__(
        self,
        lm: LoadedLM,
        names: Sequence[str],
        *,
        mode: str = "head",
        r: int = 16,
        lora_alpha: float = 32.0,
        use_rslora: bool = False,
        target_modules: Sequence[str] | None = None,
        top_m: int | None = None,
        train_vocab: bool | None = None,
        seed: int = 0,
        activation_checkpointing: bool = False,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        if not names:
            raise ValueError("MultiLoRAModel: at least one slot is needed")
        self.shapes = adapter_shapes(
            lm, mode=mode, r=r, target_modules=target_modules, top_m=top_m, train_vocab=train_vocab
        )
        self.lm, self.names, self.mode, self.r, self.seed = lm, list(names), mode, r, seed
        self.lora_alpha, self.use_rslora = lora_alpha, use_rslora
        self.scaling = lora_alpha / (math.sqrt(r) if use_rslora else r)
        self.activation_checkpointing = activation_checkpointing
        self.first_layer = _first_layer(lm, mode, top_m)
        self._rows: Rows | None = None  # of the running forward
        self._hooks = (
            []
            if mode == "head"
            else [self._hook(name) for name in self.shapes if not name.startswith("head") and not name.endswith(".B")]
        )
        self._make_bank(dtype)

    @property
    def num_slots(self) -> int:
        return len(self.names)

    def resize(self, names: Sequence[str]) -> None:
        """Other slots, with their first weights; those there were are lost, and so is what holds on to the bank."""
        dtype, self.names = self.bank.flat.dtype, list(names)
        del self.bank  # first: there may be no room for both
        for name in self.shapes:
            del self._parameters[_attribute(name)]
        self._make_bank(dtype)

    def _make_bank(self, dtype: torch.dtype) -> None:
        self.bank = SlotBank(len(self.names), self.shapes, self.lm.device, dtype)
        for name in self.shapes:
            self.register_parameter(_attribute(name), self.bank[name])
        for k, name in enumerate(self.names):
            self.reset_slot(k, name)

    def rows(self, slots: Sequence[int] | Tensor | None = None) -> Rows:
        """What may stand for `slots` in any number of forwards."""
        return Rows(self.bank, slots.tolist() if isinstance(slots, Tensor) else slots)

    def hidden(self, input_ids: Tensor | None = None, slots: Tensor | Rows | None = None, **inputs):
        """The decoder's output, adapters included."""
        with self.attached(slots):
            return self.lm.hidden(input_ids, **inputs)

    def logits(self, hidden: Tensor, slots: Tensor | Rows | None = None) -> Tensor:
        """Logits [N, n, V] of final hidden states [N, n, H], in the adapters' dtype."""
        head, dtype = self.lm.head, self.bank.flat.dtype
        rows = slots if isinstance(slots, Rows) else self.rows(slots)
        logits = head(hidden.to(head.weight.dtype)).to(dtype)
        if self.mode == "head":
            # (h + s·h·A·B)·Wᵀ = h·Wᵀ + s·(h·A)·(B·Wᵀ): nothing as wide as h is made or differentiated
            wide = F.linear(rows.weights("B").to(head.weight.dtype), head.weight).to(dtype)  # [S, r, V]
            logits = rows.add_product(logits, hidden.to(dtype), rows.weights("A"), wide, scale=self.scaling)
        elif "head" in self.bank:
            logits = rows.add_product(logits, hidden.to(dtype), rows.weights("head").mT)
        elif "head.A" in self.bank:
            A, B = rows.weights("head.A"), rows.weights("head.B")
            logits = rows.add_product(logits, hidden.to(dtype), A.mT, B.mT, scale=self.scaling)
        return finished(self.lm.model.config, logits)

    def forward(self, input_ids: Tensor | None = None, slots: Tensor | Rows | None = None, **inputs) -> Tensor:
        """logits [N, T, V] of token ids [N, T] (or `inputs_embeds`), each row with its own adapter."""
        return self.logits(self.hidden(input_ids, slots, **inputs).last_hidden_state, slots)

    @contextmanager
    def attached(self, slots: Tensor | Rows | None = None) -> Iterator[None]:
        """The base with the adapters of `slots` in it, while the context lasts.

        Within another such context only the slots change: a loop of many forwards puts the hooks in once.
        """
        with ExitStack() as stack:
            outermost = self._rows is None
            stack.enter_context(self._with_rows(slots if isinstance(slots, Rows) else self.rows(slots)))
            if outermost and self.activation_checkpointing and torch.is_grad_enabled():
                rest = list(self._hooks)
                for layer in decoder_layers(self.lm):
                    within = set(layer.modules())
                    own, rest = ([h for h in rest if (h[0] in within) == inside] for inside in (True, False))
                    stack.enter_context(self._checkpointed(layer, own))
                stack.enter_context(_hooked(rest))
            elif outermost:
                stack.enter_context(_hooked(self._hooks))
            yield

    @contextmanager
    def _with_rows(self, rows: Rows) -> Iterator[None]:
        outer, self._rows = self._rows, rows
        try:
            yield
        finally:
            self._rows = outer

    @contextmanager
    def _checkpointed(self, layer: nn.Module, hooks: Hooks) -> Iterator[None]:
        """A decoder layer whose forward is run again by backward, when the hooks of the first run are long gone: both
        runs put them in themselves."""
        forward, patched = layer.forward, vars(layer).get("forward")

        def run(rows: Rows, *args, **kwargs):
            with self._with_rows(rows), _hooked(hooks):
                return forward(*args, **kwargs)

        def checkpointed(*args, **kwargs):
            again = partial(run, self._rows)
            if any(isinstance(value, Cache) for value in (*args, *kwargs.values())):
                return again(*args, **kwargs)  # a second run would write its keys a second time
            return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

        layer.forward = checkpointed
        try:
            yield
        finally:
            del layer.forward
            if patched is not None:
                layer.forward = patched

    def _hook(self, name: str) -> tuple[nn.Module, Callable]:
        """The module that a tensor of the bank belongs to, and what adds its delta."""
        if name in ("embedding", "embedding.A"):
            hook = self._embedding_hook if name == "embedding" else self._embedding_lora_hook
            return self.lm.model.get_input_embeddings(), hook
        where, _, kind = name.rpartition(".")
        make = self._norm_hook if kind == "scale" else self._linear_hook
        return self.lm.model.get_submodule(where), make(where)

    def _linear_hook(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            A, B = self._rows.weights(f"{name}.A").to(output.dtype), self._rows.weights(f"{name}.B").to(output.dtype)
            return self._rows.add_product(output, args[0].to(output.dtype), A.mT, B.mT, scale=self.scaling)

        return hook

    def _norm_hook(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            scale = (1 + self._rows.weights(f"{name}.scale")).to(output.dtype)
            bias = getattr(module, "bias", None)  # stays as it is: only the gain is trained
            return self._rows.scaled(output, scale) if bias is None else self._rows.scaled(output - bias, scale) + bias

        return hook

    def _embedding_hook(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        delta = self._rows.looked_up(args[0], self._rows.weights("embedding"))
        return output + delta.view_as(output).to(output.dtype)

    def _embedding_lora_hook(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        narrow = self._rows.looked_up(args[0], self._rows.weights("embedding.A")).to(output.dtype)  # [S, m, r]
        B, scale = self._rows.weights("embedding.B").to(output.dtype), self.scaling * embedding_scale(module)
        return self._rows.add_product(output, narrow.view(*output.shape[:-1], self.r), B, scale=scale)

    @torch.no_grad()
    def reset_slot(self, k: int, name: str) -> None:
        """Slot k's first weights for what is called `name`: A of every layer uniform as nn.Linear's, the rest zero."""
        self.names[k] = name
        self.bank.flat[k] = 0
        # crc32, since Python's hash() is salted anew in every process
        random = torch.Generator().manual_seed(zlib.crc32(f"{name}:{self.seed}".encode()))
        for weight in (self.bank[n][k] for n in self.bank.names if n == "A" or n.endswith(".A")):
            fan_in = weight.shape[0] if self.mode == "head" else weight.shape[1]
            # kaiming_uniform_(a=√5) of one slice; over the whole stack its fan-in would be wrong
            weight.copy_((torch.rand(weight.shape, generator=random) * 2 - 1) / math.sqrt(fan_in))


def adapter_shapes(
    lm: LoadedLM,
    *,
    mode: str,
    r: int,
    target_modules: Sequence[str] | None = None,
    top_m: int | None = None,
    train_vocab: bool | None = None,
) -> dict[str, tuple[int, ...]]:
    """{name: shape} of one adapter's tensors; options as in `MultiLoRAModel`. Nothing is allocated. Raises ValueError,
    one line, on an option that this base cannot have."""
    if mode not in MODES:
        raise ValueError(f"mode = {mode!r}: must be one of {', '.join(MODES)}")
    if mode == "head":
        width = lm.model.config.get_text_config().hidden_size
        if not 1 <= r <= width:
            raise ValueError(f"r = {r}: must be 1…{width}, the width of the hidden state")
        return {"A": (width, r), "B": (r, width)}
    first, shapes = _first_layer(lm, mode, top_m), {}
    ends = _ends(lm) if target_modules else {}
    adapted = {ends[name] for name in target_modules or () if name in ends}
    if "embedding" in adapted and mode != "full":
        raise ValueError(f"target_modules: the embedding has an adapter in mode = full alone, not in {mode}")
    inner = [name for name in target_modules or () if name not in ends]
    for name, module in (adapted_linears(lm, inner or None, first) if inner or not adapted else {}).items():
        most = min(module.in_features, module.out_features)
        if not 1 <= r <= most:
            raise ValueError(f"r = {r}: must be 1…{most} ({name}: {module.in_features} → {module.out_features})")
        shapes |= {f"{name}.A": (r, module.in_features), f"{name}.B": (module.out_features, r)}
    vocabulary, width = lm.head.weight.shape
    if "embedding" in adapted:
        shapes |= {"embedding.A": (lm.model.get_input_embeddings().weight.shape[0], r), "embedding.B": (r, width)}
    if "head" in adapted:
        shapes |= {"head.A": (r, width), "head.B": (vocabulary, r)}
    if vocabulary <= SMALL_VOCABULARY if train_vocab is None else train_vocab:
        shapes |= {f"{name}.scale": tuple(module.weight.shape) for name, module in _norms(lm, first).items()}
        if mode == "full" and "embedding" not in adapted:
            shapes["embedding"] = tuple(lm.model.get_input_embeddings().weight.shape)
        if "head" not in adapted:
            shapes["head"] = (vocabulary, width)
    return shapes


@contextmanager
def _hooked(hooks: Hooks) -> Iterator[None]:
    """Forward hooks that are there while the context lasts."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attribute(name: str) -> str:
    """What a tensor of the bank is called as a parameter of the module."""
    return name.replace(".", "/")


def decoder_layers(lm: LoadedLM) -> nn.ModuleList:
    """The decoder's blocks."""
    return blocks_of(lm.model)[1]


def adapted_linears(lm: LoadedLM, target_modules: Sequence[str] | None, first_layer: int = 0) -> dict[str, nn.Linear]:
    """{name in the model: module} of the linear layers to adapt, those of the blocks from `first_layer` on.

    Raises ValueError with the names there are where one of `target_modules` is not among them.
    """
    prefix = blocks_of(lm.model)[0]
    found = {
        f"{prefix}.{i}.{name}": module
        for i, layer in enumerate(decoder_layers(lm))
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    }
    if not found:
        kind = lm.model.config.model_type
        raise ValueError(f"mode: {kind} has no layers of the kind that is adapted (nn.Linear); allowed is head")
    known = sorted({name.rsplit(".", 1)[1] for name in found})
    unknown = [name for name in target_modules or () if name not in known]
    if unknown:
        raise ValueError(
            f"target_modules: {', '.join(unknown)} not in the model; its linear layers are {', '.join(known)}"
        )
    wanted = set(target_modules or known)
    layers = {f"{prefix}.{i}." for i in range(first_layer, len(decoder_layers(lm)))}
    return {
        name: module
        for name, module in found.items()
        if name.rsplit(".", 1)[1] in wanted and any(name.startswith(layer) for layer in layers)
    }


def _ends(lm: LoadedLM) -> dict[str, str]:
    """{last part of the model's own name: "embedding" or "head"}, such as embed_tokens and lm_head."""
    ends = {id(lm.model.get_input_embeddings()): "embedding", id(lm.head): "head"}
    return {name.rsplit(".", 1)[-1]: ends[id(m)] for name, m in lm.model.named_modules() if id(m) in ends}


def _norms(lm: LoadedLM, first_layer: int) -> dict[str, nn.Module]:
    """{name in the model: module} of the norms from `first_layer` on, the final one included."""
    prefix, layers = blocks_of(lm.model)
    blocks = {f"{prefix}.{i}": layer for i, layer in enumerate(layers) if i >= first_layer}
    norms = {
        f"{block}.{name}": module
        for block, layer in blocks.items()
        for name, module in layer.named_modules()
        if name.endswith("norm")
    }
    name, final = final_norm_of(lm.model)
    return {**norms, name: final}


def _first_layer(lm: LoadedLM, mode: str, top_m: int | None) -> int:
    depth = len(decoder_layers(lm))
    if mode != "top_m":
        return 0
    if lm.no_split:
        raise ValueError(f"mode = top_m: {lm.no_split}")
    m = max(1, depth // 4) if top_m is None else top_m
    if not 1 <= m <= depth:
        raise ValueError(f"top_m = {m}: must be 1…{depth}, the model's layers")
    return depth - m


def per_slot_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of each slot, [K], from logits [K, n, V] and labels [K, n] (−100 = not counted).

    Sum these before `backward`: a mean over slots, or a mean over all tokens, would couple the adapters.
    """
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
    counted = (labels != IGNORE).sum(dim=1).clamp_min(1)
    return losses.sum(dim=1) / counted
