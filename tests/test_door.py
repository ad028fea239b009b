"""One door: what loads weights, tokenizers or pickles is named in the modules that check what they load, and nowhere
else."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: the door; what makes a folder out of a package whose hash is known; the files of a run; and three
#: comparisons with what transformers and PEFT load by themselves, which must not go through our door
ALLOWED = {
    *("arc_helpers/lm/door.py", "arc_helpers/lm/fetch.py", "arc_helpers/runs/checkpoint.py"),
    *("benchmarks/model_matrix.py", "benchmarks/smollm2.py", "arc_helpers/liza/fresh.py"),
}
LOADERS = re.compile(
    r"\.from_pretrained\(|\btorch\.load\(|\bload_file\(|\bpickle\.loads?\(|\bload_checkpoint_and_dispatch"
)
FILES = [
    path
    for folder in ("arc_helpers", "notebooks", "benchmarks", "kaggle")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "build" not in path.parts
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_loaded_beside_the_door(path):
    if str(path.relative_to(ROOT)) not in ALLOWED:
        lines = path.read_text(encoding="utf-8").splitlines()
        code = [line for line in lines if "`" not in line and not line.lstrip().startswith("#")]
        assert not [line for line in code if LOADERS.search(line)], "use lm.open_* or runs.load_state"


def test_the_door_takes_safetensors_only():
    text = (ROOT / "arc_helpers/lm/door.py").read_text()
    assert "use_safetensors=True" in text and "torch.load(" not in text
    assert "weights_only=True" in (ROOT / "arc_helpers/runs/checkpoint.py").read_text()
