"""Folders that must not be loaded: each in one line, before anything is built of it."""

import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from arc_helpers.lm.catalogue import MODELS
from arc_helpers.lm.door import check_finite, open_folder
from arc_helpers.lm.folder import ModelError, inspect_folder
from arc_helpers.lm.loading import load_causal_lm
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.runs import resolve_path


@pytest.fixture(params=["llama", "gridlm"])
def folder(request, model_folders, tmp_path):
    """A copy of a good folder, to break."""
    return shutil.copytree(model_folders[request.param], tmp_path / "model")


@pytest.fixture
def llama(model_folders, tmp_path):
    return shutil.copytree(model_folders["llama"], tmp_path / "model")


def change(folder, name="config.json", **changes):
    file = folder / name
    found = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**found, **changes}))


def change_weights(folder, alter):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    alter(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def refused(folder, match, **options):
    with pytest.raises(ModelError, match=match) as caught:
        load_causal_lm(folder, device="cpu", **options)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (lambda t: t.pop(NORM), "its weights file lacks model.norm.weight$"),
        (lambda t: t.update(extra=torch.ones(2)), "has what the model does not know: extra$"),
        (lambda t: [t.update({"x." + n: t.pop(n)}) for n in list(t)], r"lacks .* and \d+ more"),
        (lambda t: t.update({NORM: t[NORM][:3].clone()}), "cannot be loaded|in another shape: model.norm.weight"),
        (lambda t: t[NORM].fill_(float("nan")), "model.norm.weight is not finite"),
        (lambda t: t[NORM].view(-1)[3:4].fill_(float("inf")), "model.norm.weight is not finite"),
    ],
    ids=["one missing", "one too many", "all renamed", "another shape", "NaN", "infinite"],
)
def test_weights_that_are_not_the_models(folder, alter, match):
    change_weights(folder, alter)
    refused(folder, match)


def test_nan_in_a_layer_that_is_quantised(llama):
    pytest.importorskip("bitsandbytes")
    change_weights(llama, lambda t: t["model.layers.1.mlp.up_proj.weight"].view(-1)[70:71].fill_(float("nan")))
    refused(llama, r"layers\.1\.mlp\.up_proj\.weight .*is not finite", quantization="4bit")


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"num_hidden_layers": 10**6}, "num_hidden_layers = 1000000 in its config.json: must be 1 to 1024"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1 in its config.json"),
        ({"num_hidden_layers": 900}, r"num_hidden_layers = 900 in its config.json, but its weights are of \d$"),
        ({"max_position_embeddings": -4}, "max_position_embeddings = -4"),
        ({"hidden_size": 2.5}, "hidden_size = 2.5"),
        ({"hidden_size": True}, "hidden_size = True"),
        ({"hidden_size": "64"}, "hidden_size = 64"),
        ({"hidden_size": 2**17}, "but its weights are .* numbers"),
        ({"intermediate_size": 2**21}, "hidden_size × intermediate_size = .* but its weights are .* numbers"),
        ({"vocab_size": 2**23}, "vocab_size × hidden_size = .* but its weights are .* numbers"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "text_config: must be 1 to 1024"),
    ],
    ids=str,
)
def test_sizes_that_nobody_has(folder, sizes, match):
    change(folder, **sizes)
    began = time.monotonic()
    refused(folder, match)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is not a whole safetensors file"),
        ((2**60).to_bytes(8, "little") + b"{}", "is not a whole safetensors file"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00[1,2,3] ", "is not a whole safetensors file"),
    ],
    ids=["empty", "lying length", "no object"],
)
def test_headers_that_lie(llama, content, match):
    (llama / "model.safetensors").write_bytes(content)
    refused(llama, match)


def test_a_header_with_more_than_there_is(llama):
    file = llama / "model.safetensors"
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header[NORM]["shape"] = [2**40]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    refused(llama, "is not a whole safetensors file")


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "/etc/passwd", "model-1.bin", "gone.safetensors"])
def test_an_index_that_leads_elsewhere(llama, shard):
    (llama / "model.safetensors").unlink()
    (llama / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NORM: shard}}))
    refused(llama, "the shard")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_link_out_of_the_folder(llama, tmp_path, name):
    shutil.move(llama / name, tmp_path / "elsewhere")
    (llama / name).symlink_to(tmp_path / "elsewhere")
    refused(llama, "is a link that leads out of the folder")


def test_links_of_the_hubs_cache_are_its_own(llama, tmp_path):
    cache = tmp_path / "models--owner--model"
    (cache / "blobs").mkdir(parents=True)
    snapshot = shutil.move(llama, cache / "snapshots" / "abc") if (cache / "snapshots").mkdir() is None else None
    for number, file in enumerate(sorted(cache.glob("snapshots/abc/*"))):
        file.rename(cache / "blobs" / str(number))
        file.symlink_to(f"../../blobs/{number}")
    assert load_causal_lm(snapshot, device="cpu").notes == ()


def test_a_pickle_beside_safetensors_is_not_read(llama):
    (llama / "pytorch_model.bin").write_bytes(b"not a pickle either")
    assert load_causal_lm(llama, device="cpu").notes == ("pytorch_model.bin is not read: only safetensors are",)
    (llama / "model.safetensors").unlink()
    refused(llama, r"has no weights \(model.safetensors")


def test_an_adapter_is_no_model(llama):
    (llama / "adapter_config.json").write_text("{}")
    refused(llama, r"holds an adapter \(adapter_config.json\); give the folder of its base")


WHERE = [("config.json", False), ("tokenizer_config.json", False), ("config.json", True)]


def auto_map(target, inner):
    """`inner` with an auto_map at its deepest place."""
    mapped = {"auto_map": {"AutoConfig": target, "AutoModelForCausalLM": target, "AutoTokenizer": [target, None]}}
    return {"extras": {"deep": [mapped]}} if inner else mapped


@pytest.mark.parametrize(("file", "inner"), WHERE)
def test_code_runs_only_with_the_word(llama, tmp_path, file, inner):
    mark = tmp_path / "ran"
    (llama / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nraise SystemExit('evil')\n")
    change(llama, file, **auto_map("evil.Model", inner))
    assert inspect_folder(llama).has_code
    load_causal_lm(llama, device="cpu")  # transformers has a Llama of its own: that is taken
    change(llama, model_type="nobody-has-this")
    refused(llama, r"'nobody-has-this' needs Python code of its own \(auto_map\); only trust_remote_code = true")
    assert not mark.exists()


@pytest.mark.parametrize(("file", "inner"), WHERE)
def test_trusted_code_is_the_folders_own(llama, file, inner):
    change(llama, file, **auto_map("other/repository--evil.Model", inner))
    refused(llama, "auto_map names code of another repository", trust_remote_code=True)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_of_the_hub_is_not_run(llama, key):
    """transformers fetches a kernel whose name has a slash, and runs it."""
    change(llama, **{key: "somebody/fast-attention"})
    refused(llama, "names the kernel 'somebody/fast-attention', code of another repository", trust_remote_code=True)
    change(llama, **{key: {"text": "somebody/fast-attention"}})
    refused(llama, "names the kernel")


def test_the_library_prints_no_table_of_its_own(llama, capsys):
    change_weights(llama, lambda t: t.pop(NORM))
    refused(llama, "its weights file lacks")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"text_config": [1]}, "text_config in its config.json must be an object"),
        ({"num_attention_heads": 7}, r"cannot be loaded \(Class validation error .*: .*\bheads\b|attention"),
        ({"hidden_act": "evil"}, "cannot be loaded"),
        ({"rms_norm_eps": float("nan")}, "its own logits are not finite"),
        ({"model_type": "bert"}, "its weights file lacks bert"),
        ({"model_type": 5}, "cannot be loaded"),
        ({"quantization_config": "x"}, "cannot be loaded"),
    ],
    ids=str,
)
def test_configs_of_nothing(llama, changes, match):
    change(llama, **changes)
    refused(llama, match)


def test_a_tokenizer_that_transformers_rebuilds_into_another_is_taken_as_it_is(tmp_path):
    """transformers makes Qwen2's own splitting of whatever stands in tokenizer.json, losing this one's newlines."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=16, num_key_value_heads=2, **sizes)).save_pretrained(
        tmp_path, max_shard_size="60KB"
    )
    arc_tokenizer().save_pretrained(tmp_path)
    change(tmp_path, "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")
    lm = load_causal_lm(tmp_path, device="cpu")
    assert lm.notes == ("tokenizer.json as it is: what transformers makes of it for this model spells no grid",)
    assert lm.prompt_form.digits == tuple(range(10)) and lm.prompt_form.row_end == 10
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{", '"text"'])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_json_that_is_none(llama, name, content):
    (llama / name).write_text(content)
    refused(llama, "cannot be read|must hold a JSON object")


@pytest.mark.parametrize("model", [m for m in MODELS if m.sha256], ids=lambda m: m.name)
def test_shipped_models_are_those_that_are_shipped(model, tmp_path, monkeypatch):
    shipped = resolve_path(f"models/{model.name}")
    open_folder(f"models/{model.name}")
    shutil.copytree(shipped, tmp_path / "models" / model.name)
    monkeypatch.setenv("ARC_ROOT", str(tmp_path))
    copy = tmp_path / "models" / model.name
    change_weights(copy, lambda tensors: next(iter(tensors.values())).view(-1)[:1].add_(1))
    with pytest.raises(ModelError, match=r"is not the file that is shipped.*git checkout models/"):
        open_folder(f"models/{model.name}")
    open_folder(copy.rename(tmp_path / "models" / "mine"))


def test_finite_in_every_format():
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        check_finite("here", {"a": torch.ones(3, dtype=kind), "b": torch.zeros(0, dtype=kind), "c": torch.tensor([1])})
        with pytest.raises(ModelError, match="here: a is not finite"):
            check_finite("here", {"a": torch.tensor([1.0, float("nan")], dtype=kind)})
