"""Training by the Hugging Face Trainer: accumulation, checkpointing, resuming, the best model."""

import pytest
import torch

from arc_helpers import liza
from arc_helpers.liza.train import encode_documents


@pytest.fixture(scope="module")
def documents(text_file):
    lines = text_file.read_text().splitlines()
    return [" . ".join(lines[i:] + lines[:i]) for i in range(20)]


def train(llama, tokenizer, documents, out_dir, steps=8, **options):
    model = liza.titanize_model(llama, operator_mode="delta_rule", lora_dropout=0.0)
    schedule = liza.AdjustMaGWeightCallback(model, transition_step=6)
    options = {"batch_size": 4, "max_length": 32, "lr": 1e-2, **options}
    return model, liza.tune(model, tokenizer, documents, out_dir, schedule=schedule, steps=steps, **options)


@pytest.fixture(scope="module")
def plain(llama, tokenizer, documents, tmp_path_factory):
    return train(llama, tokenizer, documents, tmp_path_factory.mktemp("plain"))


def test_it_learns_on_schedule(plain):
    model, tuned = plain
    assert len(tuned.losses) == 8 and tuned.losses[-1] < tuned.losses[0] - 0.2
    assert [step for step, _, _ in tuned.mag] == list(range(1, 9))
    assert tuned.mag[0][2] == 0.01 and tuned.mag[5][2] == tuned.mag[7][2] == 0.5
    logged = [record["mag_weight"] for record in tuned.trainer.state.log_history if "loss" in record]
    assert logged == [used for _, _, used in tuned.mag]
    assert not model.training


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 1, "gradient_accumulation_steps": 4}, {"gradient_checkpointing": True}],
    ids=["accumulation", "checkpointing"],
)
def test_the_same_losses(llama, tokenizer, documents, plain, tmp_path, options):
    _, tuned = train(llama, tokenizer, documents, tmp_path, **options)
    assert tuned.losses == pytest.approx(plain[1].losses, abs=2e-4)


def test_resuming_and_the_best_model(llama, tokenizer, documents, plain, tmp_path):
    saving = {"save_steps": 4, "eval_steps": 4, "held_out": documents[:4]}
    _, whole = train(llama, tokenizer, documents, tmp_path, **saving)
    assert whole.losses == pytest.approx(plain[1].losses, abs=1e-6)
    model, resumed = train(llama, tokenizer, documents, tmp_path, **saving, resume_from=tmp_path / "checkpoint-4")
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-6) and resumed.mag == whole.mag[4:]
    # "best" is the highest loss here, so step 4, and its MaG comes back with its weights
    best = {**saving, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    model, tuned = train(llama, tokenizer, documents, tmp_path / "best", **best)
    state = tuned.trainer.state
    assert state.best_global_step == 4
    assert liza.mag_weight(model) == tuned.mag[3][2] != tuned.mag[7][2]
    assert tuned.trainer.evaluate()["eval_loss"] == pytest.approx(state.best_metric, abs=1e-5)


def test_prompts_are_cut(tokenizer, documents):
    rows = encode_documents([*documents, "the list " * 999], tokenizer)
    assert max(len(row["input_ids"]) for row in rows) == len(rows[-1]["input_ids"]) == 384
    assert {len(row["input_ids"]) for row in encode_documents(documents, tokenizer, 16)} == {16}


def test_a_tokenizer_without_pads(llama, documents):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.pad_token = None
    encode_documents(documents, tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token


@pytest.mark.parametrize(("documents", "message"), [([], "there are none"), (["a"], "none of 1 has two tokens")])
def test_nothing_to_train_on(tokenizer, documents, message):
    with pytest.raises(liza.LizaError, match=f"^documents: {message}"):
        encode_documents(documents, tokenizer)


def test_a_control_is_trained_alike(llama, tokenizer, documents, tmp_path):
    model = liza.lora_only(llama)
    tuned = liza.tune(model, tokenizer, documents, tmp_path, steps=6, batch_size=4, max_length=32, lr=1e-2)
    assert tuned.losses[-1] < tuned.losses[0] and tuned.mag == []
    assert torch.isfinite(torch.tensor(tuned.losses)).all()
