"""Third-party wheels without a network: empty files of the right names."""

from pathlib import Path

USER = "somebody"


def empty_wheels(folder: Path, versions: dict, python: str) -> dict:
    """What `wheels.fetch` does, without pip."""
    found = {name: folder / f"{name}-{version}-py3-none-any.whl" for name, version in versions.items()}
    for path in found.values():
        path.write_bytes(path.name.encode())
    return found
