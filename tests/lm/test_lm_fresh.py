"""A model that has learned nothing: a folder like any other, the same for the same seed."""

import pytest
import torch
from typer.testing import CliRunner

from arc_helpers import lm
from arc_helpers.cli import app


def new(*words: str):
    return CliRunner().invoke(app, ["models", "new", *words])


def test_a_folder_like_any_other(tmp_path):
    made = new(str(tmp_path / "fresh"), "--size", "tiny", "--layers", "2", "--seed", "3")
    assert made.exit_code == 0 and "fresh tiny × 2, 0.10 M parameters" in made.output, made.output
    there, same = lm.load_causal_lm(tmp_path / "fresh"), lm.fresh_gridlm("tiny", layers=2, seed=3, device="cpu")
    for mine, theirs in zip(there.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(mine.float(), theirs, atol=1e-3, rtol=1e-3)  # it is kept in float16
    other = lm.fresh_gridlm("tiny", layers=2, seed=4, device="cpu")
    assert not torch.equal(other.head.weight, same.head.weight)
    assert "knows nothing" in (tmp_path / "fresh" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "huge"], "preset 'huge' is not known: allowed are tiny, nano"),
        (["--layers", "0"], "layers = 0: must be >= 1"),
        ([], "notes.txt, which was not made as a model"),
    ],
)
def test_what_cannot_be_is_one_line_and_costs_nothing(tmp_path, words, said):
    (tmp_path / "notes.txt").write_text("mine")
    refused = new(str(tmp_path), *words)
    assert refused.exit_code != 0 and said in refused.output and "Traceback" not in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
