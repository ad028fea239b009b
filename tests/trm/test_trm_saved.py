"""A saved model is the same model, belongs to its data set, and a published checkpoint maps in and out."""

import dataclasses
import json

import pytest
import torch
from trm_models import small_model

from arc_helpers.trm.data import DatasetError
from arc_helpers.trm.saved import SavedModelError, load_trm, rename_official, save_trm


@pytest.fixture
def saved(dataset, tmp_path):
    model = small_model(conditioned_rows=1 + len(dataset.task_ids))
    return model, save_trm(model, tmp_path / "model", dataset, steps=12)


def test_the_same_model_comes_back(saved, dataset):
    model, folder = saved
    again = load_trm(folder, dataset)
    assert again.config == model.config and not again.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    about = json.loads((folder / "config.json").read_text())
    assert about["task_ids"] == dataset.task_ids and about["facts"] == {"steps": 12}


def test_another_data_set_is_refused_by_name(saved, dataset):
    _, folder = saved
    other = dataclasses.replace(dataset, options=dataclasses.replace(dataset.options, seed=7))
    with pytest.raises(DatasetError, match=r"seed = 7: the data set was built with it, but the checkpoint .* with 0"):
        load_trm(folder, other)
    fewer = dataclasses.replace(dataset, pairs={k: v for k, v in dataset.pairs.items() if k != "train1"})
    with pytest.raises(SavedModelError, match="was trained on other data with the same options"):
        load_trm(folder, fewer)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "no TRM there"),
        (lambda d: (d / "config.json").unlink(), "no TRM there"),
        (lambda d: (d / "model.safetensors").write_bytes(b"xx"), "not a whole"),
        (lambda d: (d / "config.json").write_text("{}"), "not a whole TRM"),
        (lambda d: (d / "config.json").write_text('{"model": {"depth": 3}}'), "unknown field depth"),
        (lambda d: (d / "config.json").write_text('{"model": {"hidden_size": 512}}'), "size mismatch|Error"),
    ],
)
def test_a_damaged_folder_is_one_line(saved, damage, message):
    _, folder = saved
    damage(folder)
    with pytest.raises(SavedModelError, match=message) as error:
        load_trm(folder)
    assert "\n" not in str(error.value)


def published(blocks: int = 2, width: int = 16, inner: int = 48) -> dict[str, torch.Tensor]:
    """Names and shapes of the published checkpoint (Samsung SAIL Montréal, commit e7b6871), smaller."""
    shapes = {
        "H_init": (width,),
        "L_init": (width,),
        "embed_tokens.embedding_weight": (12, width),
        "lm_head.weight": (12, width),
        "q_head.weight": (2, width),
        "q_head.bias": (2,),
        "puzzle_emb.weights": (5, width),
    }
    for i in range(blocks):
        shapes |= {
            f"L_level.layers.{i}.self_attn.qkv_proj.weight": (3 * width, width),
            f"L_level.layers.{i}.self_attn.o_proj.weight": (width, width),
            f"L_level.layers.{i}.mlp.gate_up_proj.weight": (2 * inner, width),
            f"L_level.layers.{i}.mlp.down_proj.weight": (width, inner),
        }
    return {f"_orig_mod.model.inner.{name}": torch.randn(shape) for name, shape in shapes.items()}


def test_a_published_checkpoint_maps_in_and_out():
    theirs = published()
    model = small_model(conditioning="identifier", conditioned_rows=5, rope="1d")
    model.load_state_dict(rename_official(theirs, "own"))
    assert torch.equal(
        model.blocks[1].mlp.down.weight, theirs["_orig_mod.model.inner.L_level.layers.1.mlp.down_proj.weight"]
    )
    back = rename_official(model.state_dict(), "official")
    assert {f"_orig_mod.model.{name}" for name in back} == set(theirs)
    for name, tensor in back.items():
        original = theirs[f"_orig_mod.model.{name}"]
        assert tensor.shape == original.shape
        rows = slice(1) if "q_head" in name else slice(None)  # the second row was never used
        assert torch.equal(tensor[rows], original[rows])
    mixer = small_model(mixer="mlp", rope="none", conditioning="identifier").state_dict()
    names = rename_official(mixer, "official")
    assert "inner.L_level.layers.0.mlp_t.gate_up_proj.weight" in names
    assert rename_official(names, "own").keys() == mixer.keys()


def test_a_tensor_without_counterpart_is_named():
    with pytest.raises(
        SavedModelError, match=r"inner\.H_level\.layers\.0\.mlp\.down_proj\.weight: a TRM has no such tensor"
    ):
        rename_official({"inner.H_level.layers.0.mlp.down_proj.weight": torch.zeros(1)}, "own")
    with pytest.raises(SavedModelError, match="to = 'theirs': must be own or official"):
        rename_official({}, "theirs")
