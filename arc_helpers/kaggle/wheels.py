"""Wheels: the third-party ones that Kaggle's image lacks, fetched for its Python, and our own."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from arc_helpers.runs import ConfigError, project_root

WHEELS, LOCK = "kaggle/wheels.txt", "kaggle/wheels.lock"
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")
KAGGLE_PYTHON = "3.12"
LOCAL_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
#: newest first; Kaggle's image is Ubuntu 22.04 (glibc 2.35)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def pinned(path: str | Path = WHEELS) -> dict[str, str]:
    """{package: version} of the list of wheels. Raises ConfigError, one line, where a line is not name==version."""
    path, versions = project_root() / path, {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, equals, version = line.partition("==")
        if not equals or not re.fullmatch(r"[a-z0-9_]+", name) or not re.fullmatch(r"[\d.]+", version):
            raise ConfigError(f"{path}, line {number}: {line}: must be name==version")
        versions[name] = version
    return versions


def fetch(folder: Path, versions: dict[str, str], python: str = KAGGLE_PYTHON) -> dict[str, Path]:
    """Download one wheel a package for a Python, whichever runs here: {package: file}. Only this step needs a network.

    Raises ConfigError, one line, where one is not to be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, *platforms, "--dest", str(folder)]
    command += [f"{name}=={version}" for name, version in versions.items()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()[-200:]]
        raise ConfigError(f"wheels for Python {python}: {lines[-1]}")
    found = {}
    for name, version in versions.items():
        # a file spells its package with "_" where the list may say "-", and the version as the list does
        (found[name],) = [f for f in folder.glob("*.whl") if f.name.lower().startswith(f"{name}-{version}-")]
        if sha256(found[name]) not in locked().get(f"{name}=={version}", ()):
            raise ConfigError(
                f"{found[name].name}: its sha256 is not one of those in {LOCK}; run `make lock`, and look"
            )
    return found


def locked(path: str | Path = LOCK) -> dict[str, set[str]]:
    """{"package==version": sha256 of each of its files} of a lock, names as in our list."""
    found: dict[str, set[str]] = {}
    for line in (project_root() / path).read_text(encoding="utf-8").splitlines():
        if not line.startswith((" ", "#")):
            name, _, version = line.split(" ")[0].partition("==")
            own = found.setdefault(f"{name.replace('-', '_')}=={version}", set())
        own.update(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def package_files() -> dict[str, bytes]:
    """What our wheel is made of: {path: content}. Raises ConfigError, one line, where there is no repository."""
    root = project_root()
    if not (root / "setup.py").is_file():
        raise ConfigError(f"{root}: a wheel is built in a clone of the repository only")
    patterns = ("arc_helpers/**/*.py", *SOURCES, *carried())
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(found) if "__pycache__" not in path.parts}


def carried() -> tuple[str, ...]:
    """The patterns of what a wheel carries besides the modules: setup.py knows them."""
    root = project_root()
    tree = ast.parse((root / "setup.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CARRIED":
            return ast.literal_eval(node.value)
    raise ConfigError(f"{root / 'setup.py'}: CARRIED is missing")


def build_own(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Build the wheel of `arc_helpers` from what `package_files` returned; returns the file."""
    with tempfile.TemporaryDirectory() as scratch:
        source, built = Path(scratch) / "source", Path(scratch) / "built"
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--wheel-dir", str(built), str(source)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "315619200"},  # the same code, the same wheel
        )
        if done.returncode:
            raise ConfigError(f"arc_helpers: its wheel cannot be built: {done.stderr.strip().splitlines()[-1]}")
        (wheel,) = built.glob("arc_helpers-*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, folder))


def sha256(content: Path | bytes) -> str:
    """Of a file or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
