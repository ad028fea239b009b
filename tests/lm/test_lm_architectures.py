"""Every architecture people bring is computed as it computes itself, or refused in one line."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from model_matrix import ARCHITECTURES, TOKENIZERS, judge, make, reads

from arc_helpers.lm import selfcheck
from arc_helpers.lm.decoder import UnknownModel, gain_of
from arc_helpers.lm.folder import ModelError
from arc_helpers.lm.loading import load_causal_lm
from arc_helpers.ttt.multilora import MultiLoRAModel

PARTS = {"GPT-2": "gpt2 has no layers of the kind that is adapted (nn.Linear); allowed is head"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exact_or_one_line(name, tmp_path):
    verdict, distance, said = judge(name, tmp_path)
    assert (verdict, said.endswith(PARTS.get(name, ""))) == ("refused" if name in PARTS else "exact", True), said
    assert distance < 1e-4 and "\n" not in said


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_are_read_symbol_by_symbol(name):
    build, expected = TOKENIZERS[name]
    assert reads(build(), expected)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    return make("Gemma 2", tmp_path_factory.mktemp("gemma"))


def test_what_differs_is_said_at_load(gemma, monkeypatch):
    """A decoder whose logits are not capped, as if the suite did not know of it."""
    monkeypatch.setattr("arc_helpers.lm.loading.finished", lambda config, logits: logits)
    with pytest.raises(ModelError, match=r"gemma2 .* \(decoder [\d.]+\): not supported$"):
        load_causal_lm(gemma, device="cpu")
    with pytest.raises(ModelError, match=r"gemma2 .* \(decoder [\d.]+\): trim_vocab=false$"):
        load_causal_lm(gemma, device="cpu", trim_vocab=True)


def test_a_model_without_halves_is_refused_one_mode_alone(gemma, monkeypatch):
    def broken(lm, ids):
        raise UnknownModel("no blocks")

    monkeypatch.setattr(selfcheck, "_split", broken)
    lm = load_causal_lm(gemma, device="cpu")
    assert lm.notes == (lm.no_split,) and lm.no_split.endswith(
        "(gemma2) cannot be run in two halves: mode = head or full"
    )
    MultiLoRAModel(lm, ["a"], mode="full", r=2)
    with pytest.raises(ValueError, match=r"^mode = top_m: .* cannot be run in two halves"):
        MultiLoRAModel(lm, ["a"], mode="top_m", r=2)


def test_logits_that_are_not_finite_are_said(gemma, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: torch.zeros_like(self, dtype=torch.bool))
    monkeypatch.setattr("arc_helpers.lm.door.check_finite", lambda where, tensors: None)
    with pytest.raises(ModelError, match="its own logits are not finite: load it with compute_dtype = float32"):
        load_causal_lm(gemma, device="cpu")


def test_the_gain_of_a_norm_is_found_by_trying():
    class OnePlus(torch.nn.RMSNorm):
        def forward(self, x):
            return torch.nn.functional.rms_norm(x, self.normalized_shape, 1 + self.weight, self.eps)

    class Squared(torch.nn.RMSNorm):
        def forward(self, x):
            return super().forward(x) * self.weight

    made = [kind(8, eps=1e-6) for kind in (torch.nn.LayerNorm, OnePlus, Squared)]
    for norm in made:
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.uniform_(made[0].bias)
    assert torch.equal(gain_of(made[0]), made[0].weight) and torch.equal(gain_of(made[1]), 1 + made[1].weight)
    with pytest.raises(UnknownModel, match="Squared: its gain is neither its weight nor 1"):
        gain_of(made[2])


def test_the_table_in_the_documents_names_them_all():
    text = (Path(__file__).parents[2] / "models/README.md").read_text(encoding="utf-8")
    table = text[text.index("## Which architectures are exact") :]
    assert not [name for name in ARCHITECTURES if name.split(",")[0] not in table]
