"""Loading: three architectures, 4-bit and not, on a CPU; every bad folder in one clear line."""

import json
import shutil

import pytest
import torch
from lm_tokenizers import architects_tokenizer, char_tokenizer, nvarc_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM
from arc_helpers.lm.loading import QUANTIZATIONS, CastingLinear, ModelError, load_causal_lm, trim_vocabulary
from arc_helpers.lm.prompt import encode
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.lm.vocabulary import TokenizerError

ARCHITECTURES = ["llama", "qwen2", "gridlm"]


def prompt_of(lm, task) -> torch.Tensor:
    return torch.from_numpy(encode(task, lm.prompt_form).input_ids)[None]


@pytest.fixture
def folder(model_folders, tmp_path):
    """A copy of a good folder, to break."""
    return shutil.copytree(model_folders["llama"], tmp_path / "model")


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loads_frozen_in_float32(model_folders, task, name):
    lm = load_causal_lm(model_folders[name], device="cpu")
    assert lm.dtype == torch.float32 and lm.device == torch.device("cpu") and lm.notes == ()
    assert lm.name == model_folders[name].name
    assert not lm.model.training
    assert not any(p.requires_grad for p in lm.model.parameters())
    assert {p.dtype for p in lm.model.parameters()} == {torch.float32}
    ids = prompt_of(lm, task)
    logits = lm.model(ids).logits
    assert logits.shape == (1, ids.shape[1], lm.head.weight.shape[0]) and logits.isfinite().all()
    assert torch.equal(lm.head(lm.hidden(ids).last_hidden_state), logits)


@torch.no_grad()
@pytest.mark.parametrize("quantization", ["4bit", "4bit-fp4"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loads_frozen_in_4bit_on_the_cpu(model_folders, task, name, quantization):
    bnb = pytest.importorskip("bitsandbytes")
    lm = load_causal_lm(model_folders[name], device="cpu", quantization=quantization)
    assert not any(p.requires_grad for p in lm.model.parameters())
    layers = [m for m in lm.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(layers) == 7 * lm.model.config.num_hidden_layers
    assert {m.weight.quant_type for m in layers} == {QUANTIZATIONS[quantization]}
    assert {m.weight.dtype for m in layers} == {torch.uint8}
    assert lm.head.weight.is_floating_point()  # rows of tokens are never quantised
    ids = prompt_of(lm, task)
    # a float model with the very weights that the 4 bits stand for
    whole = load_causal_lm(model_folders[name], device="cpu")
    for path, layer in lm.model.named_modules():
        if layer in layers:
            weight = whole.model.get_submodule(path).weight
            coarse = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            assert 0 < (coarse - weight).norm() / weight.norm() < 0.2
            weight.copy_(coarse)
    torch.testing.assert_close(lm.model(ids).logits, whole.model(ids).logits, atol=1e-4, rtol=1e-4)


def test_gradients_pass_through_4bit_layers(model_folders, task):
    """Also after inference, which on some CPUs repacks the weights into a form that has no backward."""
    pytest.importorskip("bitsandbytes")
    lm = load_causal_lm(model_folders["llama"], device="cpu", quantization="4bit")
    ids = prompt_of(lm, task)
    with torch.no_grad():
        lm.model(ids)
    layer = lm.model.model.layers[0].mlp.up_proj
    x = torch.randn(1, 3, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def test_4bit_rows_that_a_cpu_reads_wrongly_are_refused(tmp_path):
    """bitsandbytes 0.50 takes the scales of rows of 176 weights from the wrong blocks, and says nothing."""
    pytest.importorskip("bitsandbytes")
    GridLMForCausalLM(GridLMConfig.preset("tiny")).save_pretrained(tmp_path)
    arc_tokenizer().save_pretrained(tmp_path)
    assert load_causal_lm(tmp_path, device="cpu").dtype == torch.float32
    with pytest.raises(
        ModelError, match=r"mlp\.down_proj has rows of 176 weights; 4-bit on a CPU needs multiples of 64"
    ):
        load_causal_lm(tmp_path, device="cpu", quantization="4bit")


def test_the_seeds_options_reach_the_quantizer(model_folders):
    pytest.importorskip("bitsandbytes")
    options = {"quantization": "4bit", "compute_dtype": "bfloat16", "device_map": {"": "cpu"}}
    lm = load_causal_lm(model_folders["llama"], **options)
    layer = lm.model.model.layers[0].mlp.up_proj
    assert layer.weight.quant_state.nested and layer.compute_dtype == torch.bfloat16 == lm.dtype


def test_4bit_without_bitsandbytes_is_one_line(model_folders, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match="bitsandbytes is not installed; install the extra `gpu` or use 'none'"):
        load_causal_lm(model_folders["llama"], quantization="4bit")


@pytest.mark.parametrize(
    ("asked", "given", "note"),
    [
        (None, 256, ""),
        (100, 100, ""),
        (256, 256, ""),
        (4096, 256, "max_len 4096 clamped to the model's context of 256"),
    ],
)
def test_max_len_never_exceeds_the_context(model_folders, asked, given, note):
    lm = load_causal_lm(model_folders["llama"], device="cpu", max_len=asked)
    assert lm.max_len == given
    assert note in " ".join(lm.notes) and bool(note) == bool(lm.notes)


def test_float16_on_a_cpu_is_allowed_with_a_note(model_folders):
    lm = load_causal_lm(model_folders["gridlm"], device="cpu", compute_dtype="float16")
    assert lm.dtype == torch.float16 == lm.head.weight.dtype
    assert lm.notes == ("float16 on a CPU is about 18 times slower than float32",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "8bit"}, "quantization = '8bit': must be one of none, 4bit, 4bit-fp4"),
        ({"compute_dtype": "fp16"}, "compute_dtype = 'fp16': must be auto, float32, bfloat16, float16"),
        ({"max_len": 8}, "max_len = 8: must be >= 16"),
    ],
)
def test_unknown_options(model_folders, options, message):
    with pytest.raises(ModelError) as caught:
        load_causal_lm(model_folders["llama"], **options)
    assert str(caught.value) == message


def without(folder, *names):
    for name in names:
        (folder / name).unlink()


def truncate(path, size=100):
    path.write_bytes(path.read_bytes()[:size])


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: without(f, "config.json"), "has no config.json"),
        (lambda f: without(f, "tokenizer.json"), "has no tokenizer"),
        (lambda f: without(f, "model.safetensors"), "has no weights"),
        (shutil.rmtree, "no such folder"),
        (lambda f: truncate(f / "config.json"), "config.json: cannot be read"),
        (lambda f: truncate(f / "tokenizer.json"), "cannot be loaded"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lambda f: truncate(f / "model.safetensors", 5000), "is not a whole safetensors file"),
        (lambda f: change_config(f, model_type="no-such-architecture"), "cannot be loaded .*no-such-architecture"),
        (lambda f: change_config(f, vocab_size=20), "cannot be loaded|has in another shape"),
    ],
    ids=[
        "no config",
        "no tokenizer",
        "no weights",
        "no folder",
        "half a config",
        "half a tokenizer",
        "an empty tokenizer",
        "half the weights",
        "unknown architecture",
        "wrong size",
    ],
)
def test_a_broken_folder_gives_one_clear_line(folder, break_it, message):
    break_it(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_causal_lm(folder, device="cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(folder):
    """Its ids lie outside the embedding: without a check that is an IndexError in the middle of a run."""
    char_tokenizer("".join(map(chr, range(0x4E00, 0x4F00))) + "0123456789\nIO").save_pretrained(folder)
    with pytest.raises(ModelError, match=r"its tokenizer uses token \d+, but the model knows only \d+"):
        load_causal_lm(folder, device="cpu")


def test_a_tokenizer_without_newlines_is_refused_with_the_folder(folder):
    char_tokenizer("0123456789IO").save_pretrained(folder)
    with pytest.raises(TokenizerError, match="no token of its own for") as caught:
        load_causal_lm(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "path", ["models/nope", "./nope", "../nope", "nope", "/tmp/no/such/model", "configs/nope", "a/b/c"]
)
def test_a_missing_path_is_not_looked_for_elsewhere(path, network_attempts, monkeypatch):
    """Every test fails where the network is tried; here not even the hub's cache is asked."""
    monkeypatch.setattr("arc_helpers.lm.door._download", None)
    with pytest.raises(ModelError, match=r"no such folder.*see models/README\.md"):
        load_causal_lm(path)
    assert network_attempts() == []


def test_a_hub_id_is_fetched_only_on_the_word(model_folders, monkeypatch):
    with pytest.raises(ModelError, match="if it is a hub id, get it once: hf download Qwen/Qwen2-7B --local"):
        load_causal_lm("Qwen/Qwen2-7B")
    asked = []

    def fetched(hub_id, **options):
        asked.append((hub_id, options["allow_patterns"]))
        return model_folders["llama"]

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert load_causal_lm("Qwen/Qwen2-7B", download=True, device="cpu").name == "Qwen2-7B"
    ((hub_id, patterns),) = asked
    assert hub_id == "Qwen/Qwen2-7B" and "*.safetensors" in patterns and not {"*.py", "*.bin", "*"} & set(patterns)


def test_no_network_is_one_line(monkeypatch):
    def fetched(hub_id, **options):
        raise OSError("We couldn't connect\nto a hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    with pytest.raises(ModelError, match=r"^Qwen/Qwen2-7B: cannot be loaded \(We couldn't connect\)$"):
        load_causal_lm("Qwen/Qwen2-7B", download=True)


def test_a_folder_wins_over_a_hub_id(model_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    shutil.copytree(model_folders["gridlm"], tmp_path / "owner" / "model")
    assert load_causal_lm("owner/model", device="cpu").name == "model"


# Trimming


def same_logits_after_trimming(lm, task, atol: float) -> None:
    """The trimmed model's logits are the old ones at the old ids."""
    old, ids = lm.prompt_form, prompt_of(lm, task)
    before = lm.model(ids).logits.float()[..., old.token_ids]
    new = trim_vocabulary(lm.model, old)
    assert new == old.trimmed()
    to_new = {token: i for i, token in enumerate(old.token_ids)}
    mapped = torch.tensor([[to_new[int(i)] for i in ids[0]]])
    after = lm.model(mapped).logits
    assert after.dtype == torch.float32 and after.shape[-1] == len(old.token_ids) <= 16
    torch.testing.assert_close(after, before, atol=atol, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_a_trimmed_model_says_the_same(model_folders, task, name, dtype, atol):
    """Llama and GridLM have a head of their own, Qwen2 shares it with the embedding."""
    lm = load_causal_lm(model_folders[name], device="cpu", compute_dtype=dtype)
    assert lm.model.config.tie_word_embeddings == (name == "qwen2")
    same_logits_after_trimming(lm, task, atol)
    assert {p.dtype for p in (lm.head.weight, lm.model.get_input_embeddings().weight)} == {torch.float32}
    assert not any(p.requires_grad for p in lm.model.parameters())


@torch.no_grad()
def test_a_trimmed_gridlm_still_knows_rows_from_marks(task, tmp_path):
    """Its special ids are in another order than the arc tokenizer's, so they move when the vocabulary is cut."""
    tokenizer = char_tokenizer("OI\n9876543210")
    new_row, new_i, new_o = tokenizer.convert_tokens_to_ids(["\n", "I", "O"])
    torch.manual_seed(3)
    config = GridLMConfig.preset(
        "tiny",
        initializer_range=0.2,
        vocab_size=len(tokenizer),
        row_end_token_id=new_row,
        marker_token_ids=(new_i, new_o),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    GridLMForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    lm = load_causal_lm(tmp_path, device="cpu")
    ids = prompt_of(lm, task)
    places = lm.positions(ids, torch.ones_like(ids))
    same_logits_after_trimming(lm, task, 1e-5)
    to_new = {token: i for i, token in enumerate(lm.prompt_form.token_ids)}
    mapped = torch.tensor([[to_new[int(i)] for i in ids[0]]])
    assert torch.equal(lm.positions(mapped, torch.ones_like(ids)), places)


@torch.no_grad()
def test_trimming_on_loading(model_folders, task):
    whole = load_causal_lm(model_folders["qwen2"], device="cpu")
    lm = load_causal_lm(model_folders["qwen2"], device="cpu", trim_vocab=True)
    used = whole.prompt_form.token_ids
    assert lm.notes == (f"vocabulary trimmed to {len(used)} tokens",)
    assert isinstance(lm.head, CastingLinear) and lm.head.weight.shape[0] == len(used) == lm.model.config.vocab_size
    expected = whole.model(prompt_of(whole, task)).logits[..., used]
    torch.testing.assert_close(lm.model(prompt_of(lm, task)).logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_trimming_a_4bit_model(model_folders, task):
    pytest.importorskip("bitsandbytes")
    options = {"device": "cpu", "quantization": "4bit"}
    whole = load_causal_lm(model_folders["llama"], **options)
    lm = load_causal_lm(model_folders["llama"], trim_vocab=True, **options)
    expected = whole.model(prompt_of(whole, task)).logits[..., whole.prompt_form.token_ids]
    torch.testing.assert_close(lm.model(prompt_of(lm, task)).logits, expected, atol=1e-5, rtol=0)


def test_generating_with_a_trimmed_model_stops_at_its_new_end(model_folders, task):
    lm = load_causal_lm(model_folders["llama"], device="cpu", trim_vocab=True)
    assert lm.model.generation_config.eos_token_id == lm.prompt_form.end
    generated = lm.model.generate(prompt_of(lm, task), do_sample=False, max_new_tokens=3)
    assert generated.max() < len(lm.prompt_form.token_ids)


@torch.no_grad()
def test_a_head_is_cut_with_its_bias(model_folders, task):
    lm = load_causal_lm(model_folders["llama"], device="cpu")
    head = lm.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.randn(head.out_features), requires_grad=False)
    same_logits_after_trimming(lm, task, 1e-5)


def test_positions_of_padded_rows(model_folders):
    """Llama counts tokens behind the padding; GridLM reads columns and rows off the ids."""
    lm = load_causal_lm(model_folders["llama"], device="cpu")
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert lm.positions(torch.zeros_like(mask), mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    grid = load_causal_lm(model_folders["gridlm"], device="cpu")
    ids = torch.tensor([arc_tokenizer().encode("I12\n3", add_special_tokens=False)])
    assert grid.positions(ids, torch.ones_like(ids)).tolist() == [
        [[0, 0, 1], [1, 1, 1], [2, 1, 1], [3, 1, 1], [1, 2, 1]]
    ]


@torch.no_grad()
@pytest.mark.parametrize(
    ("form", "tokenizer"), [("architects", architects_tokenizer()), ("nvarc", nvarc_tokenizer())], ids=str
)
def test_a_model_that_knows_arc_is_asked_in_its_own_form(form, tokenizer, tmp_path, task):
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    whole, lm = (load_causal_lm(tmp_path, device="cpu", trim_vocab=trim) for trim in (False, True))
    assert (whole.prompt_form.name, whole.prompt_form.why) == (form, "by its tokenizer")
    assert lm.prompt_form.why == whole.prompt_form.why
    expected = whole.model(prompt_of(whole, task)).logits[..., whole.prompt_form.token_ids]
    torch.testing.assert_close(lm.model(prompt_of(lm, task)).logits, expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"the prompt form '\w+' needs one|no token of its own"):
        load_causal_lm(tmp_path, device="cpu", prompt_form="nvarc" if form == "architects" else "suite")
