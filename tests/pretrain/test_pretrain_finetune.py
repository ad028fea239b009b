"""Fine-tuning a language model on ARC: it learns, goes on to the bit, and what is saved is what was trained."""

import dataclasses
import json
import os
import socket

import pytest
import torch
from test_pretrain_base_run import quick, words  # noqa: F401  a fixture
from test_pretrain_trainer import SIX, Killed, kill_at, same
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from arc_helpers.arc import Pair
from arc_helpers.lm.loading import load_causal_lm
from arc_helpers.lm.prompt import encode_pairs
from arc_helpers.lm.tokenizer import SYMBOLS
from arc_helpers.pretrain.base_run import corpus_from, main, model_from
from arc_helpers.pretrain.batches import Batch
from arc_helpers.pretrain.finetune import AdapterSettings, FineTuned, merge_adapter
from arc_helpers.pretrain.mixture import Mixture, task_sampler
from arc_helpers.pretrain.processes import Processes
from arc_helpers.pretrain.trainer import Pretrainer
from arc_helpers.runs import resolve
from arc_helpers.runs.notebook import find_notebook

peft = pytest.importorskip("peft")
TUNING = dataclasses.replace(SIX, optimizer="adamw", lr_adamw=3e-3, weight_decay=0.0, ema_decay=0.0)
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """The grid alphabet among other characters, so that trimming leaves something out."""
    vocab = {
        symbol: i for i, symbol in enumerate(["<unk>", *"abcdefgh", *SYMBOLS, *"+/-=", *map(chr, range(192, 300))])
    }
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A Llama, and a Qwen2 whose head is tied."""
    made = {}
    for name, kind, config in (("llama", LlamaForCausalLM, LlamaConfig), ("tied", Qwen2ForCausalLM, Qwen2Config)):
        made[name] = str(tmp_path_factory.mktemp(name))
        torch.manual_seed(0)
        model = kind(config(vocab_size=len(tokenizer()), tie_word_embeddings=name == "tied", **SMALL))
        model.save_pretrained(made[name])
        tokenizer().save_pretrained(made[name])
    return made


def tuned(base: str, seed: int = 0, **changes) -> FineTuned:
    options = {name: changes.pop(name) for name in ("quantization", "prompt_form") if name in changes}
    return FineTuned.load(
        base, AdapterSettings(**{"r": 4, "alpha": 8.0, **changes}), seed=seed, device="cpu", **options
    )


def mixture_of(model: FineTuned) -> Mixture:
    rows = [[[i, (i + 3) % 10]] for i in range(10)]
    pairs = [Pair(row, [[row[0][1], row[0][0]]]) for row in rows]
    sources = {"swap": (1.0, task_sampler({"a": pairs[:5], "b": pairs[5:]}))}
    return Mixture(sources, model.prompt_form, max_len=64)


def trained(model: FineTuned, config=TUNING, **options) -> Pretrainer:
    trainer = Pretrainer(model, mixture_of(model), config, **options)
    trainer.run()
    return trainer


def test_it_learns_and_the_base_does_not_change(bases):
    model = tuned(bases["llama"])
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    trainer = trained(model, dataclasses.replace(TUNING, steps=30, batch_tokens=1024, lr_adamw=1e-2))
    assert trainer.history[-1]["loss"] < 0.7 * trainer.history[0]["loss"]
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    assert trainer.averaged is model and trainer.ema is None


def test_killed_and_resumed_equals_never_killed(bases, tmp_path):
    straight = trained(tuned(bases["llama"]), checkpoint=tmp_path / "straight.pt")
    with pytest.raises(Killed):
        trained(tuned(bases["llama"]), checkpoint=tmp_path / "killed.pt", on_metrics=kill_at(5))
    model = tuned(bases["llama"], seed=7)  # other first weights: they come from the checkpoint
    resumed = Pretrainer(model, mixture_of(model), TUNING, tmp_path / "killed.pt")
    assert resumed.step == 3
    resumed.run()
    assert same(straight.trained, resumed.trained)
    state = torch.load(tmp_path / "killed.pt", weights_only=True)
    assert set(state["model"]) == set(resumed.trained) and all("lora_" in n or "weight" in n for n in state["model"])
    size = (tmp_path / "killed.pt").stat().st_size
    assert size < 20 * sum(p.numel() for p in resumed.trained.values()), "the base is not in it"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"r": 8}, "was made with r = 4, this run has 8"), ({"train_rows": False}, "was made with train_rows = True")],
)
def test_a_run_goes_on_with_the_adapter_it_began_with(bases, tmp_path, change, message):
    trained(tuned(bases["llama"]), dataclasses.replace(TUNING, steps=1), checkpoint=tmp_path / "c.pt")
    model = tuned(bases["llama"], **change)
    with pytest.raises(ValueError, match=message):
        Pretrainer(model, mixture_of(model), TUNING, tmp_path / "c.pt")
    model = tuned(bases["tied"])
    with pytest.raises(ValueError, match="was made with base = "):
        Pretrainer(model, mixture_of(model), TUNING, tmp_path / "c.pt")


@torch.no_grad()
@pytest.mark.parametrize("base", ["llama", "tied"])
@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True, "train_rows": False, "target_modules": ("q_proj", "up_proj")}], ids=str
)
def test_what_is_saved_is_what_was_trained(bases, base, options, tmp_path):
    with torch.enable_grad():
        model = trained(tuned(bases[base], **options)).averaged.eval()
    folder = model.save_adapter(tmp_path / "tuned", "# card")
    whole = load_causal_lm(bases[base], device="cpu")
    encoded = encode_pairs([Pair([[1, 2]], [[2, 1]])], Pair([[3, 4]], [[4, 3]]), whole.prompt_form)
    ids = torch.from_numpy(encoded.input_ids)[None]
    small = {old: new for new, old in enumerate(whole.prompt_form.token_ids)}
    expected = model(torch.tensor([[small[int(i)] for i in ids[0]]])).logits
    loaded = load_causal_lm(folder, device="cpu")
    rows = loaded.prompt_form.token_ids
    merged = load_causal_lm(merge_adapter(folder, tmp_path / "merged", "# card"), device="cpu")
    by_peft = peft.PeftModel.from_pretrained(whole.model, folder).eval()
    for answers in (loaded.model, merged.model, by_peft):
        torch.testing.assert_close(answers(ids).logits[..., rows], expected, atol=1e-4, rtol=1e-4)
    assert loaded.name.endswith("+tuned") and (folder / "README.md").read_text() == "# card"
    assert not torch.allclose(
        load_causal_lm(bases[base], device="cpu").model(ids).logits[..., rows], expected, atol=1e-3
    )


@torch.no_grad()
@pytest.mark.parametrize("base", ["llama", "tied"])
def test_packed_documents_do_not_see_each_other(bases, base):
    model = tuned(bases[base]).eval()
    documents = [mixture_of(model).document(i) for i in range(4)]
    packed = Batch.pack([documents[:3], documents[3:]], 200, model.prompt_form.pad)
    ids, places = torch.from_numpy(packed.input_ids), torch.from_numpy(packed.positions)
    together = model(ids, places).logits
    at = 0
    for i, (_, document) in enumerate(documents):
        row, at = (0, at) if i < 3 else (1, 0)
        alone = model(torch.from_numpy(document.input_ids)[None]).logits[0]
        torch.testing.assert_close(together[row, at : at + len(document)], alone, atol=1e-4, rtol=1e-4)
        at += len(document)
    assert not torch.allclose(model(ids).logits, together, atol=1e-3), "the control: without positions they do"


def test_packing_and_parts_change_only_how_it_is_computed(bases):
    """In a form without a start token, too, which pretraining itself could not pack."""
    packed = dataclasses.replace(TUNING, pack=True, steps=3)
    whole = trained(tuned(bases["llama"]), packed)
    assert whole.kernel == "positions" and whole.notes[0].startswith("packed: positions")
    parts = trained(tuned(bases["llama"]), dataclasses.replace(packed, micro_tokens=64))
    assert parts.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=1e-5)
    assert same(whole.trained.keys(), parts.trained.keys())


def test_checkpointing_changes_nothing_but_the_memory(bases):
    plain, recomputed = (trained(tuned(bases["llama"], checkpointing=on)) for on in (False, True))
    assert recomputed.model.language_model.is_gradient_checkpointing
    for name, parameter in plain.trained.items():
        torch.testing.assert_close(recomputed.trained[name], parameter, atol=1e-6, rtol=1e-4)


def test_a_4bit_base(bases, tmp_path):
    pytest.importorskip("bitsandbytes")
    model = trained(tuned(bases["llama"], quantization="4bit")).averaged.eval()
    folder = model.save_adapter(tmp_path / "tuned", "")
    lm = load_causal_lm(folder, device="cpu", quantization="4bit", trim_vocab=True)
    ids = torch.from_numpy(mixture_of(model).document(0)[1].input_ids)[None]
    with torch.no_grad():
        torch.testing.assert_close(lm.model(ids).logits, model(ids).logits, atol=1e-3, rtol=1e-3)


def test_a_gridlm_can_be_fine_tuned_too(tmp_path):
    model = tuned("models/arc-micro", train_rows=True)
    trained(model, dataclasses.replace(TUNING, steps=2, pack=True))
    folder = model.eval().save_adapter(tmp_path / "tuned", "")
    lm = load_causal_lm(folder, device="cpu")
    ids = torch.from_numpy(mixture_of(model).document(0)[1].input_ids)[None]
    with torch.no_grad():
        torch.testing.assert_close(lm.model(ids).logits, model(ids).logits, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match=r"activation checkpointing: arc-micro \(gridlm\) has none"):
        tuned("models/arc-micro", checkpointing=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r = 0: must be >= 1"),
        ({"target_modules": ("query",)}, "target_modules: query not in the model; it has down_proj, gate_proj"),
        ({"prompt_form": "nvarc"}, "the prompt form 'nvarc' needs one: it can spell the form suite"),
    ],
)
def test_what_a_base_cannot_have_is_one_line(bases, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        tuned(bases["llama"], **options)
    assert "\n" not in str(caught.value)


def test_the_command_line_leaves_an_adapter_that_loads(quick, bases, tmp_path, capsys):  # noqa: F811
    knobs = {"base": bases["llama"], "max_steps": 4, "r": 4, "merge": "true", "max_len": 512}
    main(words(tmp_path, **knobs))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["preset"] == bases["llama"] and summary["model"] == str(tmp_path / "model-merged")
    assert "prompt form suite (nothing says otherwise)" in capsys.readouterr().out
    adapted, merged = (load_causal_lm(tmp_path / name, device="cpu") for name in ("model", "model-merged"))
    assert adapted.prompt_form == merged.prompt_form and adapted.prompt_form.why == "by prompt_form.json"
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"`{bases['llama']}` with a LoRA" in card and "- r: 4" in card and "of which" in card
    main(words(tmp_path, **{**knobs, "max_steps": 5}))
    assert "starts at step 4" in capsys.readouterr().out


def test_a_float16_base_learns_with_a_scaled_loss(bases):
    lm = load_causal_lm(bases["llama"], trim_vocab=True, device="cpu", compute_dtype="float16")
    torch.manual_seed(0)
    model = FineTuned(lm, AdapterSettings(r=4, alpha=8.0), bases["llama"])
    trainer = trained(model, dataclasses.replace(TUNING, steps=12, lr_adamw=1e-2))
    assert trainer.scale == 1024 and trainer.history[-1]["loss"] < trainer.history[0]["loss"]
    single = trained(tuned(bases["llama"]), dataclasses.replace(TUNING, steps=12, lr_adamw=1e-2))
    assert trainer.history[0]["loss"] == pytest.approx(single.history[0]["loss"], rel=0.01)
    for p in model.language_model.parameters():
        assert p.isfinite().all()


def tune_as_one_of_two(rank: int, base: str, folder) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    torch.set_num_threads(1)
    processes = Processes.from_environment()
    trainer = trained(tuned(base), processes=processes)
    torch.save(dict(trainer.trained), folder / f"{rank}.pt")
    processes.close()


def test_two_processes_equal_one_with_the_whole_batch(bases, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    context = torch.multiprocessing.get_context("fork")
    started = [context.Process(target=tune_as_one_of_two, args=(r, bases["llama"], tmp_path)) for r in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same(first, second)
    alone, start = trained(tuned(bases["llama"])).trained, tuned(bases["llama"])
    begun = dict(start.named_parameters())
    apart = sum((first[name] - p).norm() ** 2 for name, p in alone.items()) ** 0.5
    moved = sum((p - begun[name]).norm() ** 2 for name, p in alone.items()) ** 0.5
    assert apart < 1e-2 * moved


def test_a_base_with_a_short_context_gets_short_documents(quick, bases, tmp_path):  # noqa: F811
    knobs = resolve(
        "base_model", "tiny", {"base": "models/arc-micro", "max_len": 9000, "max_steps": 1, "curriculum": ""}
    )
    model, form, max_len = model_from(knobs, 0)
    curriculum, _, _ = corpus_from(knobs, form, 0, max_len)
    assert max_len == model.max_len == curriculum.longest < 9000


def test_an_adapter_is_a_model_for_02_but_no_base_for_another(bases, tmp_path):
    folder = tuned(bases["llama"]).save_adapter(tmp_path / "tuned", "")
    chosen = find_notebook("02_multilora_ttt")
    lines, _ = chosen.page(chosen.check({"profile": "tiny", "model_dir": str(folder)}))
    assert any("MiB of weights" in line for line in lines) and not any("no tokenizer" in line for line in lines)
    with pytest.raises(ValueError, match="is an adapter; give a model, such as that adapter merged"):
        tuned(str(folder))
