"""What a run depends on, in a few characters, without reading 15 GB at every start."""

import importlib
import os

import pytest

fingerprints = importlib.import_module("arc_helpers.runs.fingerprint")  # the package has a function of that name
fingerprint, EVERY, WHOLE = fingerprints.fingerprint, fingerprints.EVERY, fingerprints.WHOLE


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A model folder with a sparse file that is sampled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(WHOLE + 10 * EVERY)
    return folder


def write(file, at, value=b"\x01"):
    with open(file, "r+b") as opened:
        opened.seek(at)
        opened.write(value)
    os.utime(file, ns=(1, os.stat(file).st_mtime_ns + 1))  # a clock of whole seconds would not have moved


def test_a_large_file_is_read_once_and_only_in_samples(large, monkeypatch):
    read = []
    content_hash = fingerprints._content_hash
    monkeypatch.setattr(fingerprints, "_content_hash", lambda path: read.append(path.name) or content_hash(path))
    first = fingerprint(large)
    assert sorted(read) == ["config.json", "model.safetensors"]
    assert fingerprint(large) == first
    assert read.count("model.safetensors") == 1, "size, time of change and inode are those that were remembered"
    (large / ".cache").write_text("left out")
    assert fingerprint(large) == first


@pytest.mark.parametrize("at", [0, 3 * EVERY, WHOLE + 10 * EVERY - 1])
def test_a_change_where_a_sample_is_taken_is_seen(large, at):
    before = fingerprint(large)
    write(large / "model.safetensors", at)
    assert fingerprint(large) != before


def test_another_size_or_name_is_another_model(large):
    found = {fingerprint(large)}
    write(large / "model.safetensors", WHOLE + 10 * EVERY, b"\x00")
    found.add(fingerprint(large))
    (large / "config.json").rename(large / "other.json")
    found.add(fingerprint(large))
    assert len(found) == 3


def test_a_small_file_is_read_whole(large):
    before = fingerprint(large)
    (large / "config.json").write_text("[]")
    assert fingerprint(large) != before


def test_without_a_cache_folder_it_is_hashed_again(large, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no/such")
    assert fingerprint(large) == fingerprint(large)
