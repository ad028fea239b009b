"""Tiny random models with adapters that are not zero, made once."""

import json

import pytest
import torch
from liza_models import stir
from transformers import AutoTokenizer

from arc_helpers import liza


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "words.jsonl"
    words = [f"the {noun} of {other} returns a {noun}" for noun in ("list", "dict", "str") for other in ("key", "item")]
    path.write_text("".join(json.dumps({"text": f"{i}: " + "\n".join(words)}) + "\n" for i in range(6)))
    return path


@pytest.fixture(scope="session")
def folders(tmp_path_factory, text_file):
    """{family: folder of a random base}; rows are whole blocks of 64 weights, as 4-bit needs."""
    root = tmp_path_factory.mktemp("bases")
    options = {"hidden": 64, "layers": 2, "vocab": 300, "steps": 0, "dataset": str(text_file)}
    return {family: liza.make_text_model(root / family, family=family, **options) for family in ("llama", "qwen2")}


@pytest.fixture(scope="session")
def llama(folders):
    return folders["llama"]


@pytest.fixture(scope="session")
def tokenizer(llama):
    return AutoTokenizer.from_pretrained(llama)


@pytest.fixture(scope="session")
def ids():
    return torch.randint(1, 280, (2, 128), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(folders):
    """make(mode, family="llama", …) → a titanized model with stirred adapters, MaG 0.5."""

    def build(mode="delta_rule", family="llama", **options):
        model = liza.titanize_model(folders[family], operator_mode=mode, **{"mag_weight": 0.5, **options})
        return stir(model)

    return build
