"""K adapters on one base: each with its own task, none with another's."""

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from arc_helpers.lm.loading import LoadedLM, load_causal_lm
from arc_helpers.lm.prompt import IGNORE, encode
from arc_helpers.ttt.cache import answer_features
from arc_helpers.ttt.decode import generate_with_lora
from arc_helpers.ttt.multilora import MODES, MultiLoRAModel, per_slot_cross_entropy
from arc_helpers.ttt.trainer import train_multi_lora


def padded(lm: LoadedLM, tasks) -> tuple[Tensor, Tensor]:
    """Ids and labels of the tasks, one a row, padded on the right."""
    encoded = [encode(task, lm.prompt_form) for task in tasks]
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(e.input_ids) for e in encoded], True, padding_value=lm.prompt_form.pad
    )
    labels = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(e.labels) for e in encoded], True, padding_value=IGNORE)
    return ids, labels


def positions(lm: LoadedLM, ids: Tensor) -> dict[str, Tensor]:
    """GridLM cannot read positions off embeddings."""
    return {"position_ids": lm.positions(ids, torch.ones_like(ids))} if hasattr(lm.model, "grid_positions") else {}


def randomise(model: MultiLoRAModel) -> MultiLoRAModel:
    """Adapters that do something: fresh ones have B = 0."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def gradients_by_row(model: MultiLoRAModel, ids: Tensor, labels: Tensor) -> Tensor:
    """[K, K]: the largest gradient of slot i's loss with respect to the input embeddings of row j."""
    embeddings = model.lm.model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings, **positions(model.lm, ids))
    losses = per_slot_cross_entropy(logits[:, :-1], labels[:, 1:])
    gradients = [torch.autograd.grad(loss, embeddings, retain_graph=True)[0] for loss in losses]
    return torch.stack([g.abs().amax(dim=(1, 2)) for g in gradients])


def assert_each_adapter_sees_its_own_task(model: MultiLoRAModel, ids: Tensor, labels: Tensor) -> None:
    gradients = gradients_by_row(model, ids, labels)
    own = torch.eye(len(ids), dtype=torch.bool)
    assert (gradients[own] > 0).all(), f"an adapter does not see its own task:\n{gradients}"
    assert (gradients[~own] == 0).all(), f"an adapter sees another's task:\n{gradients}"


class FirstTaskOnly(MultiLoRAModel):
    """The bug of a public script of this idea: one base forward, on the tokens of task 0, for all adapters."""

    def forward(self, input_ids=None, slots=None, **inputs):
        first = {name: value[:1] for name, value in inputs.items()}
        hidden = self.lm.hidden(None if input_ids is None else input_ids[:1], **first).last_hidden_state
        return self.logits(hidden.expand(self.num_slots, -1, -1), slots)


@pytest.mark.parametrize("mode", MODES)
def test_each_adapter_sees_its_own_task(lm, tasks, mode):
    model = randomise(MultiLoRAModel(lm, ["a", "b", "c"], r=4, mode=mode))
    assert_each_adapter_sees_its_own_task(model, *padded(lm, tasks))


def test_the_check_catches_a_base_run_on_task_0_only(lm, tasks):
    model = randomise(FirstTaskOnly(lm, ["a", "b", "c"], r=4))
    with pytest.raises(AssertionError, match="does not see its own task"):
        assert_each_adapter_sees_its_own_task(model, *padded(lm, tasks))


def test_a_mean_over_tokens_would_not_pass_for_losses_of_slots():
    """Slot losses are means over their own counted tokens, whatever their neighbours' lengths."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[1, IGNORE, IGNORE, IGNORE, IGNORE], [2, 3, 4, IGNORE, 5]])
    losses = per_slot_cross_entropy(logits, labels)
    for k in range(2):
        counted = labels[k] != IGNORE
        torch.testing.assert_close(losses[k], torch.nn.functional.cross_entropy(logits[k, counted], labels[k, counted]))
    nothing = per_slot_cross_entropy(logits, torch.full_like(labels, IGNORE))
    assert nothing.tolist() == [0, 0]


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_a_fresh_adapter_changes_nothing(lm, tasks, mode):
    ids, _ = padded(lm, tasks)
    model = MultiLoRAModel(lm, ["a", "b", "c"], r=4, mode=mode)
    assert any(p.any() for p in model.parameters()), "with A zero as well it could never learn"
    torch.testing.assert_close(model(ids), lm.model(ids).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_row_goes_through_its_own_adapter(lm, tasks):
    """The formula, by hand: hidden + (alpha / r) hidden A B, then the head."""
    ids, _ = padded(lm, tasks)
    model = randomise(MultiLoRAModel(lm, ["a", "b"], r=4, lora_alpha=12.0))
    slots = torch.tensor([1, 0, 1])
    logits = model(ids, slots)
    hidden = lm.hidden(ids).last_hidden_state
    for row, slot in enumerate(slots):
        changed = hidden[row] + 3.0 * hidden[row] @ model.A[slot] @ model.B[slot]
        torch.testing.assert_close(logits[row], lm.head(changed), atol=1e-4, rtol=1e-4)
    assert (logits - lm.model(ids).logits).abs().amax(dim=(1, 2)).min() > 1e-3


def test_only_adapters_are_parameters(gridlm, tasks):
    model = randomise(MultiLoRAModel(gridlm, ["a", "b"], r=4))
    assert [name for name, _ in model.named_parameters()] == ["A", "B"]
    assert model.A.shape == (2, 64, 4) and model.B.shape == (2, 4, 64) and model.num_slots == 2
    ids, labels = padded(gridlm, tasks[:2])
    per_slot_cross_entropy(model(ids)[:, :-1], labels[:, 1:]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().amax(dim=(1, 2)).min() > 0 for p in model.parameters())
    assert all(p.grad is None for p in gridlm.model.parameters())


def test_first_weights_depend_on_name_and_seed_alone(gridlm):
    one = MultiLoRAModel(gridlm, ["a", "b", "c"], r=4, seed=3)
    other = MultiLoRAModel(gridlm, ["c", "a"], r=4, seed=3)
    assert torch.equal(other.A, one.A[[2, 0]])
    assert not torch.equal(one.A[0], one.A[1])
    assert not torch.equal(MultiLoRAModel(gridlm, ["a"], r=4, seed=4).A[0], one.A[0])
    # U(-1/√H, 1/√H), the range that nn.Linear draws from
    assert 0.9 / 8 < one.A.abs().max() <= 1 / 8 and one.A.mean().abs() < 0.01


def test_first_weights_leave_the_random_stream_alone(gridlm):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    MultiLoRAModel(gridlm, ["a"], r=4)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, r"r = 0: must be 1…64"),
        ({"r": 65}, r"r = 65: must be 1…64, the width of the hidden state"),
        ({"mode": "deep"}, r"mode = 'deep': must be one of head"),
        ({"names": []}, r"at least one slot is needed"),
        ({"mode": "full", "r": 65}, r"r = 65: must be 1…64 \(model.layers.0.self_attn.q_proj: 64 → 64\)"),
        ({"mode": "top_m", "top_m": 4}, r"top_m = 4: must be 1…3, the model's layers"),
        ({"mode": "top_m", "top_m": 0}, r"top_m = 0: must be 1…3"),
        (
            {"mode": "full", "target_modules": ["q_proj", "qkv", "w1"]},
            r"target_modules: qkv, w1 not in the model; its linear layers are down_proj, gate_proj, k_proj, o_proj, "
            r"q_proj, up_proj, v_proj$",
        ),
    ],
)
def test_bad_options(gridlm, options, message):
    with pytest.raises(ValueError, match=message):
        MultiLoRAModel(gridlm, **{"names": ["a"], **options})


def as_dtype(lm: LoadedLM, dtype: torch.dtype) -> LoadedLM:
    model = type(lm.model)(lm.model.config)
    model.load_state_dict(lm.model.state_dict())
    model = model.to(dtype).eval().requires_grad_(False)
    return LoadedLM(model, lm.tokenizer, lm.prompt_form, lm.name, lm.max_len, lm.device, dtype)


def train_and_answer(lm: LoadedLM, tasks) -> None:
    """All that a run does with a base, in its dtype."""
    model = MultiLoRAModel(lm, [t.id for t in tasks], r=4)
    assert model.A.dtype == torch.float32
    pools = [answer_features(lm, [encode(task, lm.prompt_form)] * 2) for task in tasks]
    losses = train_multi_lora(model, pools, steps=3, lr=0.01)
    assert (losses[-1] < losses[0]).all()
    ids, _ = padded(lm, tasks)
    assert model(ids).dtype == torch.float32 and model(ids).isfinite().all()
    prompts = [encode(task.without_answers(), lm.prompt_form).input_ids for task in tasks]
    answers = generate_with_lora(model, prompts, range(len(tasks)), [4] * len(tasks))
    assert all(answer.token_ids for answer in answers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_states_meet_float32_adapters(lm, tasks, dtype):
    """The seed's "expected mat1 and mat2 to have the same dtype"."""
    train_and_answer(as_dtype(lm, dtype), tasks)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_adapters_over_a_4bit_base(lms, tasks, tmp_path, compute_dtype):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(1)
    base = lms["llama"]
    LlamaForCausalLM(LlamaConfig(**base.model.config.to_diff_dict())).save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    train_and_answer(load_causal_lm(tmp_path, device="cpu", quantization="4bit", compute_dtype=compute_dtype), tasks)


@pytest.mark.parametrize("name", ["llama", "gridlm"])
def test_adapters_over_a_bfloat16_base_with_a_trimmed_vocabulary(lms, tasks, tmp_path, name):
    """Activations in bfloat16, head and adapters in float32."""
    lms[name].model.save_pretrained(tmp_path)
    lms[name].tokenizer.save_pretrained(tmp_path)
    lm = load_causal_lm(tmp_path, device="cpu", compute_dtype="bfloat16", trim_vocab=True)
    assert lm.head.weight.dtype == torch.float32 != lm.model.model.layers[0].mlp.up_proj.weight.dtype
    train_and_answer(lm, tasks)


def hooks(lm: LoadedLM) -> int:
    return sum(len(module._forward_hooks) for module in lm.model.modules())


@pytest.mark.parametrize("mode", ["top_m", "full"])
def test_no_hook_is_left_behind(lm, tasks, mode):
    ids, _ = padded(lm, tasks)
    plain = lm.model(ids).logits
    model = randomise(MultiLoRAModel(lm, ["a", "b", "c"], r=4, mode=mode))
    with model.attached():
        assert hooks(lm) > 0
    assert hooks(lm) == 0
    with pytest.raises(RuntimeError, match="halfway"), model.attached():
        raise RuntimeError("halfway")
    with pytest.raises(ValueError, match="3 rows for 2 slots: must be a multiple"):
        model(ids, torch.tensor([0, 1]))
    assert hooks(lm) == 0
    assert torch.equal(lm.model(ids).logits, plain)


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_rows_in_blocks(lm, tasks, mode):
    """Two rows a slot, any slots in any order, are as each row by itself."""
    ids, _ = padded(lm, tasks)
    model = randomise(MultiLoRAModel(lm, ["a", "b", "c"], r=4, mode=mode))
    rows, slots = ids[[0, 1, 2, 0]], torch.tensor([2, 0])
    logits = model(rows, slots)
    for i in range(4):
        torch.testing.assert_close(logits[i], model(rows[i : i + 1], slots[[i // 2]])[0], atol=1e-4, rtol=1e-4)
    everyone = model(ids.repeat_interleave(2, dim=0))  # all slots in order, two rows each
    torch.testing.assert_close(everyone[::2], model(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("mode", "extra"), [("full", {"embedding", "head"}), ("top_m", {"head"}), ("head", set())])
def test_what_is_trained_in_full_where_the_vocabulary_is_small(lm, tasks, mode, extra):
    model = MultiLoRAModel(lm, ["a", "b"], r=4, mode=mode, top_m=1)
    whole = {n for n in model.bank.names if not n.endswith(("A", "B"))}
    norms = {n for n in whole if n.endswith("norm.scale")}
    assert whole - norms == extra and bool(norms) == (mode != "head")
    last = f"model.layers.{len(lm.model.model.layers) - 1}."
    if mode == "top_m":
        assert all(n.startswith((last, "model.norm")) for n in norms) and len(norms) >= 3
    ids, labels = padded(lm, tasks[:2])
    per_slot_cross_entropy(model(ids)[:, :-1], labels[:, 1:]).sum().backward()
    assert all(model.bank[name].grad.flatten(1).abs().amax(dim=1).min() > 0 for name in whole)
    without = MultiLoRAModel(lm, ["a", "b"], r=4, mode=mode, top_m=1, train_vocab=False)
    assert all(name.endswith(("A", "B")) for name in without.bank.names)


@torch.no_grad()
def test_trained_in_full_means_other_weights(lm, tasks):
    """Embedding, norms and head with a slot's deltas, by hand, in a copy of the base."""
    ids, _ = padded(lm, tasks[:1])
    model = MultiLoRAModel(lm, ["a"], r=4, mode="full")
    for name in model.bank.names:
        if not name.endswith((".A", ".B")):
            model.bank[name].normal_(std=0.1)
    changed = as_dtype(lm, torch.float32)
    head = torch.nn.Linear(*lm.head.weight.T.shape, bias=False)  # a tied one must not change with the embedding
    head.weight.copy_(lm.head.weight + model.bank["head"][0])
    changed.model.get_input_embeddings().weight.add_(model.bank["embedding"][0])
    for name, module in changed.model.named_modules():
        if f"{name}.scale" in model.bank:
            module.weight.mul_(1 + model.bank[f"{name}.scale"][0])
    torch.testing.assert_close(model(ids), head(changed.hidden(ids).last_hidden_state), atol=1e-4, rtol=1e-4)


def test_target_modules_and_layers(gridlm):
    model = MultiLoRAModel(
        gridlm, ["a"], mode="top_m", top_m=2, target_modules=["q_proj", "up_proj"], train_vocab=False
    )
    places = {f"model.layers.{i}.{m}" for i in (1, 2) for m in ("self_attn.q_proj", "mlp.up_proj")}
    assert set(model.bank.names) == {f"{place}.{factor}" for place in places for factor in "AB"}
    assert MultiLoRAModel(gridlm, ["a"], r=16, lora_alpha=8.0).scaling == 0.5
    assert MultiLoRAModel(gridlm, ["a"], r=16, lora_alpha=8.0, use_rslora=True).scaling == 2.0
