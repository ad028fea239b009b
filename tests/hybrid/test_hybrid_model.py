"""The joint model: what is trained, what is not, where gradients go, and what does not fit together."""

import copy
from dataclasses import replace

import pytest
import torch

from arc_helpers.hybrid.checks import finite_difference_error, in_float64, weights_hash
from arc_helpers.hybrid.feedback import Attempt
from arc_helpers.hybrid.model import HybridConfig, HybridError, HybridModel, embedding_rms
from arc_helpers.hybrid.questions import as_batch, labels_of
from arc_helpers.hybrid.tiny import KINDS, tiny_examples, tiny_lm, tiny_trm
from arc_helpers.hybrid.train import JointConfig, JointTrainer
from arc_helpers.lm.lora import add_lora, checkpoint_layers
from arc_helpers.trm import run_segments, segment_loss
from arc_helpers.trm.loop import check_gradients, gradient_report
from arc_helpers.trm.loss import cell_loss

EXAMPLES = tiny_examples(4)
QUESTIONS = [example.question for example in EXAMPLES]


@pytest.mark.parametrize("mode", ["prefix", "carry", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_joint_step_moves_everything_trained_and_nothing_of_the_language_model(make, kind, mode):
    model = make(kind, mode=mode)
    before, own = weights_hash(model.lm.model), copy.deepcopy(model.state_dict())
    trainer = JointTrainer(model, EXAMPLES, JointConfig(batch_size=4, max_attempts=2, steps=9, told=0.5))
    loss, metrics = trainer.loss(EXAMPLES, attempts=2)
    loss.backward()
    check_gradients(model)  # raises unless every trained parameter has a finite gradient other than zero
    assert {name.split(".")[0] for name in gradient_report(model)} == {"trm", "to_latent", "to_text"}
    assert all(p.grad is None for p in model.lm.model.parameters())
    for optimizer in trainer.optimizers:
        optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, own[name])}
    assert changed == set(gradient_report(model))
    assert weights_hash(model.lm.model) == before
    assert {"loss_1", "loss_2", "exact_1", "exact_2"} == set(metrics)


def test_the_report_sees_a_cut(make):
    model = make()
    states = model.first_states(QUESTIONS)
    batch, labels = as_batch(QUESTIONS, 3), labels_of(EXAMPLES, 3)
    cut = type(states)(states.hidden, states.mask)
    model.to_latent.requires_grad_(True)
    with torch.no_grad():
        prefix, carry = model.condition(batch, cut)
    segment_loss(model.trm(carry, batch, prefix), labels, "softmax")[0].backward()
    with pytest.raises(RuntimeError, match=r"gradients: .*to_latent.* is none"):
        check_gradients(model)


@pytest.mark.parametrize("mode", ["prefix", "carry"])
def test_closed_gates_leave_a_pretrained_trm_as_it_is(make, mode):
    model = make(opened=0.0, mode=mode)
    batch = as_batch(QUESTIONS, 3)
    alone = list(run_segments(model.trm, batch))
    segments, _ = model.segments(batch, model.first_states(QUESTIONS))
    for (_, tokens, _), made in zip(alone, segments, strict=True):
        assert (made.logits.argmax(-1).numpy() == tokens).all()
    assert torch.equal(model.trm(model.trm.start(4, 9), batch).logits, segments[0].logits)
    assert not torch.equal(
        make(mode=mode).segments(batch, model.first_states(QUESTIONS))[0][0].logits, segments[0].logits
    )


def double(kind: str, lm) -> HybridModel:
    trm = tiny_trm(halt_max_steps=1)  # one segment: between two, the history is cut on purpose
    model = HybridModel(lm, trm, HybridConfig(canvas_side=3, mode="both"))
    with torch.no_grad():
        for gate in model.to_latent.gates.values():
            gate.normal_(0, 0.5)
    return model.double()


@pytest.mark.parametrize("kind", ["gridlm", "llama"])
def test_gradients_are_those_of_finite_differences(kind):
    """float64, norms and softmax too: of the loss by a prefix, by a start, and through two attempts."""
    lm = tiny_lm(kind)
    with in_float64(lm.model):
        model = double(kind, replace(lm, dtype=torch.float64))
        batch, labels = as_batch(QUESTIONS, 3), labels_of(EXAMPLES, 3)
        states = model.first_states(QUESTIONS)
        assert states.hidden.dtype == torch.float64

        def loss(segment):  # segment_loss's halting term goes through float32
            return cell_loss(segment.logits, labels, "softmax").mean() + segment.halt.square().mean()

        prefix, carry = model.condition(batch, states)
        assert finite_difference_error(lambda x: loss(model.trm(carry, batch, x)), prefix) < 1e-6
        for name in ("z_H", "z_L"):

            def of_start(x, name=name):
                return loss(model.trm(replace(carry, **{name: x}), batch, prefix))

            assert finite_difference_error(of_start, getattr(carry, name)) < 1e-6
        history = [[Attempt(1, example.answer, 0.5, 0.1, 1, example.question.input)] for example in EXAMPLES]

        def two_attempts(first_prefix):
            first = model.trm(carry, batch, first_prefix)
            again = model.next_states(QUESTIONS, history, first.carry.latents)
            return loss(model.segments(batch, again)[0][-1])

        assert finite_difference_error(two_attempts, prefix) < 1e-6
    assert lm.model.dtype == torch.float64


def test_finite_differences_notice_a_detach():
    x = torch.randn(5, dtype=torch.float64)
    assert finite_difference_error(lambda x: (x * x).sum(), x) < 1e-6
    assert finite_difference_error(lambda x: (x * x.detach()).sum(), x) > 0.4
    with pytest.raises(ValueError, match=r"x: torch.float32; differences need float64"):
        finite_difference_error(lambda x: x.sum(), x.float())


def test_think_halts_each_row_on_its_own(make):
    model = make(trm={"halt_max_steps": 4})
    batch, states = as_batch(QUESTIONS, 3), model.first_states(QUESTIONS)
    made, _ = model.segments(batch, states)
    halts = torch.stack([segment.halt for segment in made])  # [4, B]
    with torch.no_grad():  # move the bias so that some rows halt early and others do not
        model.trm.halt_head.bias -= halts[0].median() + 1e-4
    made, _ = model.segments(batch, states)
    thought = model.think(batch, states)
    halts = torch.stack([segment.halt for segment in made])
    for row in range(4):
        stops = (halts[:, row] > 0).nonzero().flatten().tolist()
        n = stops[0] + 1 if stops else 4
        assert thought.segments[row] == n
        assert torch.equal(thought.tokens[row], made[n - 1].logits[row].argmax(-1))
        before = made[n - 2].carry.z_H[row] if n > 1 else model.condition(batch, states)[1].z_H[row]
        moved = (made[n - 1].carry.z_H[row] - before).norm() / before.norm()
        torch.testing.assert_close(thought.residual[row], moved)
    assert len(set(thought.segments.tolist())) > 1


def test_controls_take_the_content_away(make):
    plain, zeroed, shuffled = (make(control=c) for c in ("none", "zeroed", "shuffled"))
    states = plain.first_states(QUESTIONS)
    assert not zeroed.first_states(QUESTIONS).hidden.any()
    assert torch.equal(shuffled.first_states(QUESTIONS).hidden, states.hidden.roll(2, 0))
    assert make(conditioning="blank").first_states(QUESTIONS) is None
    with pytest.raises(HybridError, match="control = 'shuffled': a batch of one question"):
        shuffled.first_states(QUESTIONS[:1])


def test_task_vectors_are_trained_only_where_they_condition(make):
    rows = {"conditioned_rows": 5}
    assert not any("conditioner" in name for name in gradient_report(make(trm=rows)))
    model = make(trm=rows, conditioning="id")
    assert any("conditioner.task" in name for name in gradient_report(model))
    assert not hasattr(model, "to_latent")


def test_lora_is_trained_and_saved_with_the_model(make):
    lm = add_lora(tiny_lm("llama"), r=2, target_modules=["q_proj", "v_proj"])
    model = make(lm=lm)
    assert model.bank is None and sum("lora" in name for name in model.state_dict()) == 8
    loss, _ = JointTrainer(model, EXAMPLES, JointConfig(batch_size=4)).loss(EXAMPLES, attempts=1)
    loss.backward()
    grads = {name: p.grad is not None for name, p in lm.model.named_parameters()}
    assert all(has == ("lora_" in name) for name, has in grads.items())
    JointTrainer(make(opened=0.0, lm=lm), EXAMPLES, JointConfig(batch_size=4, steps=3)).run()  # its own check passes
    assert all(p.any() for name, p in lm.model.named_parameters() if "lora_" in name)
    with pytest.raises(ValueError, match="r = 0: must be >= 1"):
        add_lora(tiny_lm("llama"), r=0)


def test_checkpointing_gives_the_same_gradients(make):
    gradients = []
    for prepare in (lambda lm: lm, checkpoint_layers):
        model = make(lm=prepare(tiny_lm("llama")))
        loss, _ = JointTrainer(model, EXAMPLES, JointConfig(batch_size=4, told=0.0)).loss(EXAMPLES, attempts=2)
        loss.backward()
        gradients.append(model.to_text.out.weight.grad)
    torch.testing.assert_close(*gradients)
    with pytest.raises(ValueError, match=r"activation checkpointing: tiny gridlm .gridlm. has none"):
        checkpoint_layers(tiny_lm())


def test_four_bit_models_pass_the_gradient_on(make):
    """The seed's LLM: 4-bit weights, half-precision activations, float32 adapters."""
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.nn import Linear4bit

    lm = tiny_lm("llama")
    model = lm.model.to(torch.bfloat16)
    for block in model.model.layers:  # 64 weights a row, as bitsandbytes needs on a CPU
        whole = block.mlp.down_proj
        block.mlp.down_proj = Linear4bit(64, 32, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
        block.mlp.down_proj.load_state_dict({"weight": whole.weight.data})
        block.mlp.down_proj.support_avx512bf16_for_cpu = False
    lm = replace(lm, model=model.to("cpu").requires_grad_(False), dtype=torch.bfloat16)
    joint = make(lm=lm)
    loss, _ = JointTrainer(joint, EXAMPLES, JointConfig(batch_size=4)).loss(EXAMPLES, attempts=2)
    loss.backward()
    check_gradients(joint)


def test_what_does_not_go_together_is_said_in_a_line():
    class NoWidth:
        def get_text_config(self):
            return object()

    lm = tiny_lm()
    blind = replace(lm, model=copy.copy(lm.model))
    blind.model.__dict__["config"] = NoWidth()
    with pytest.raises(HybridError, match="tiny gridlm: its config has no hidden_size"):
        HybridModel(blind, tiny_trm(), HybridConfig(canvas_side=3))
    with pytest.raises(HybridError, match="canvas_side = 4: the TRM has a fixed canvas of 9 cells"):
        HybridModel(lm, tiny_trm(mixer="mlp", rope="none", canvas_cells=9), HybridConfig(canvas_side=4))
    for fields, message in (
        ({"max_attempts": 0}, "max_attempts = 0: must be >= 1"),
        ({"canvas_side": 31}, "canvas_side = 31: must be >= 1 and <= 30"),
        ({"conditioning": "words"}, "conditioning = 'words': must be one of text, id, blank"),
        ({"control": "noise"}, "control = 'noise': must be one of none, shuffled, zeroed"),
    ):
        with pytest.raises(HybridError, match=message):
            HybridConfig(**fields)


def test_soft_tokens_take_the_embeddings_scale(make):
    model = make("llama")
    ids = torch.tensor(model.lm.prompt_form.token_ids)
    assert embedding_rms(model.lm) == pytest.approx(
        model.lm.model.get_input_embeddings()(ids).square().mean().sqrt().item()
    )
    assert model.parameter_table()["frozen language model"] == sum(p.numel() for p in model.lm.model.parameters())
