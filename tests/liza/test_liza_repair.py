"""A repaired model remembers, decodes as it reads, and does not mind padding; and what is refused."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from arc_helpers import liza
from arc_helpers.liza import checks, repair
from arc_helpers.liza.cache import LizaLayer


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("mode", ["delta_rule", "delta_product"])
def test_liza_is_on(make, ids, mode, family):
    found = checks.is_liza_on(make(mode, family), ids)
    assert found["decode_gap"] <= 1e-5 and found["left_padding_effect"] <= 1e-5
    assert found["greedy_agreement"] == 1
    assert found["length_effect"] == found["future_leak"] == found["future_leak_padded"] == 0
    assert min(found["wiping_effect"], found["mag_effect"], found["lora_gradient"]) > 1e-3


@pytest.mark.parametrize("mode", ["delta_rule_v", "delta_rule_kv", "delta_product_r", "delta_product_c"])
def test_the_other_modes_decode_as_they_read(make, ids, mode):
    model = make(mode)
    assert checks.decode_gap(model, ids[:, :48], 20) <= 1e-5
    assert checks.left_padding_effect(model, ids[:, :32]) <= 1e-5
    assert checks.length_effect(model, ids) == 0


def test_the_library_left_alone_fails_where_it_is_said_to(make, ids):
    """Expected failures of tptt 0.12.1: they are why the repair exists."""
    found = checks.is_liza_on(make(repaired=False), ids)
    assert found["decode_gap"] > 0.1 and found["length_effect"] > 0.1 and found["wiping_effect"] == 0
    assert found["greedy_agreement"] < 1


def test_the_chunked_rule_is_what_the_layer_computes(make, ids):
    """The library's own stages around the literal recurrence give the layer's output."""
    from arc_helpers.liza.delta import delta_rule_recurrence

    model = make()
    attention = next(liza.liza_layers(model)).linear_attn
    library = attention.library
    q, k, v = (torch.randn(2, 21, heads * 16) for heads in (4, 2, 2))
    _, beta = library.compute_gate(k, v)
    out, _ = delta_rule_recurrence(*library.prepare_attention_input(q, k, v), beta)
    expected = library.merge_head_output(out, torch.nn.Identity(), q.dtype, q.device)
    assert torch.allclose(attention([q, k, v], out_proj=torch.nn.Identity()), expected, atol=1e-5)


def test_mag_0_without_adapters_is_the_base(make, folders, ids):
    for family, folder in folders.items():
        base = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        assert checks.base_difference(make(family=family), base, ids) == 0


def test_branch_ratios_are_what_mag_mixes(llama, ids):
    model = liza.titanize_model(llama, operator_mode="delta_rule")
    ratios = checks.branch_ratios(model, ids)
    layer = next(liza.liza_layers(model))
    layer.base_attn.o_proj.base_layer.weight.data *= 2  # both branches share it: the first ratio stays
    assert len(ratios) == 2 and checks.branch_ratios(model, ids)[0] == pytest.approx(ratios[0], rel=1e-4)
    assert not layer.linear_attn._forward_hooks and not layer.base_attn._forward_hooks


@pytest.mark.parametrize("mode", ["delta_rule", "delta_product"])
def test_a_left_padded_batch_is_its_rows(make, ids, mode):
    """Prompts of different lengths, generated together and one by one; the second begins with pads."""
    inner = liza.inner_model(make(mode))
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    batch, mask = ids[:, :20].clone(), torch.ones(2, 20, dtype=torch.long)
    batch[1, :9], mask[1, :9] = 0, 0
    together = inner.generate(batch, attention_mask=mask, **options)
    alone = inner.generate(batch[1:, 9:], attention_mask=mask[1:, 9:], **options)
    assert torch.equal(together[1, 9:], alone[0])


def test_right_padding_then_decoding_goes_on_from_the_last_real_token(make, ids):
    model = make("delta_product")
    inner = liza.inner_model(model)
    padded, mask = ids[:1, :12].clone(), torch.ones(1, 13, dtype=torch.long)
    mask[:, 9:12] = 0
    cache = checks.fresh_cache(model)
    inner(padded, attention_mask=mask[:, :12], past_key_values=cache, use_cache=True)
    step = inner(
        ids[:1, 20:21],
        attention_mask=mask,
        position_ids=torch.tensor([[9]]),
        past_key_values=cache,
        use_cache=True,
    ).logits
    whole = inner(torch.cat([ids[:1, :9], ids[:1, 20:21]], 1)).logits[:, -1:]
    assert (step - whole).abs().max() <= 1e-5


def test_beams_take_the_memory_along(make, ids):
    inner = liza.inner_model(make())
    options = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones(1, 16, dtype=torch.long)
    made = [inner.generate(ids[:1, :16], attention_mask=mask, use_cache=cached, **options) for cached in (True, False)]
    assert torch.equal(*made)


def test_two_prompts_do_not_share_a_memory(make, ids, tokenizer):
    pipe = liza.TpttPipeline(model=make(), tokenizer=tokenizer)
    first = pipe("the list of key", max_new_tokens=6)
    pipe("a dict", max_new_tokens=6)
    assert pipe("the list of key", max_new_tokens=6) == first
    assert pipe(["the list of key", "a dict"], max_new_tokens=6)[0] == first


def test_a_memory_cannot_be_cropped_or_taken_over(make, ids):
    model = make()
    inner, cache = liza.inner_model(model), checks.fresh_cache(model)
    inner(ids[:, :8], past_key_values=cache, use_cache=True)
    assert all(type(layer) is LizaLayer for layer in cache.layers)
    with pytest.raises(
        ValueError, match=r"^crop\(-1\): LiZA's memory cannot forget its last tokens; start a new cache$"
    ):
        cache.crop(-1)
    cache.reset()
    assert cache.get_seq_length() == 0 and cache.layers[0].memory == {}
    other = DynamicCache()
    for layer in range(2):
        other.update(torch.zeros(2, 2, 3, 16), torch.zeros(2, 2, 3, 16), layer)
    with pytest.raises(ValueError, match="was filled without LiZA: start a new cache"):
        inner(ids[:, :1], past_key_values=other, use_cache=True)


def test_padding_in_the_middle_of_a_sequence_is_refused(make, ids):
    model = make()
    inner, cache = liza.inner_model(model), checks.fresh_cache(model)
    inner(ids[:, :8], past_key_values=cache, use_cache=True)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[:, 8] = 0
    with pytest.raises(liza.LizaError, match="left padding inside a sequence that has begun"):
        inner(ids[:, 8:12], attention_mask=mask, past_key_values=cache, use_cache=True)


# --- what is refused


@pytest.mark.parametrize("mode", ["delta", "gated_delta_rule", "delta_rule_gelu"])
def test_modes_that_are_not_proven(llama, mode):
    with pytest.raises(liza.LizaError) as error:
        liza.titanize_model(llama, operator_mode=mode)
    assert str(error.value).startswith(
        f"operator_mode = '{mode}': must be one of delta_rule, delta_rule_v, delta_rule_kv"
    )
    assert "\n" not in str(error.value)


def test_gated_modes_are_the_librarys_to_offer(llama):
    model = liza.titanize_model(llama, operator_mode="gated_delta_rule", repaired=False)
    assert not liza.is_repaired(model)
    with pytest.raises(liza.LizaError, match="operator_mode = 'gated_delta_rule'"):
        liza.repair_model(model)


@pytest.mark.parametrize(
    ("package", "version", "message"),
    [
        ("tptt", "0.12.0", r"^tptt 0\.12\.0: the repair is proven for 0\.12\.1 only$"),
        ("transformers", "5.19.0", r"^transformers 5\.19\.0: notebook 07 needs >= 5\.20, < 5\.24$"),
        ("transformers", "5.24.0", r"^transformers 5\.24\.0: notebook 07 needs >= 5\.20, < 5\.24$"),
    ],
)
def test_versions_that_are_not_proven(monkeypatch, llama, package, version, message):
    real = repair.metadata.version
    monkeypatch.setattr(repair.metadata, "version", lambda name: version if name == package else real(name))
    with pytest.raises(liza.LizaError, match=message):
        liza.titanize_model(llama, operator_mode="delta_rule")


def test_other_attention_implementations(make):
    model = make(repaired=False)
    liza.inner_model(model).get_base_model().set_attn_implementation("sdpa")
    with pytest.raises(liza.LizaError, match=r"^attn_implementation = 'sdpa': must be 'eager'"):
        liza.repair_model(model)


def test_a_model_that_is_not_titanized(llama):
    with pytest.raises(liza.LizaError, match="has no LiZAttention; titanize it first"):
        liza.repair_model(AutoModelForCausalLM.from_pretrained(llama))


def test_code_that_is_not_tptts(tmp_path):
    import tptt

    for name in repair.PROVEN["0.12.1"]:
        shutil.copy(f"{tptt.__path__[0]}/{name}", tmp_path / name)
    liza.check_code(tmp_path)
    with (tmp_path / "modeling_tptt.py").open("a") as file:
        file.write("\n")
    with pytest.raises(
        liza.LizaError, match=r"modeling_tptt\.py: sha256 \w{12}… is not that of tptt 0\.12\.1: not run"
    ):
        liza.check_code(tmp_path)
