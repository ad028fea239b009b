"""kaggle/kernels.yaml: which notebook runs where, with what attached; and the metadata that the client pushes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from arc_helpers.runs import ConfigError, resolve_path
from arc_helpers.runs.notebook import Notebook, find_notebook

#: accelerators by the names the API takes (kaggle-cli docs, 2026); an unknown one is silently the default GPU, a P100
#: that the image's torch cannot use, so it stops here
SHAPES = Literal["None", "NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000"]
NOBODY = "INSERT-USER-NAME"  # the owner in a bundle that was made without one; it cannot be pushed
TABLE = "kaggle/kernels.yaml"
MAX_HOURS = 12.0


class Row(BaseModel):
    """What the parts of kernels.yaml have in common: a typo is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=6, max_length=50, pattern=r"^[ -~]+$")

    @property
    def slug(self) -> str:
        """The title as Kaggle spells it in addresses; an id that is not its title's slug is refused with 409."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


class Dataset(Row):
    """The dataset that carries wheels and small models."""

    models: list[str] = []
    licenses: list[str] = Field(min_length=1, max_length=1)


class Kernel(Row):
    """One kernel: a notebook with parameters, an accelerator, what is attached, and how long it may run."""

    notebook: str
    machine_shape: SHAPES
    competition: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    datasets: list[str] = []
    models: list[str] = []
    wheels: list[str] = []
    hours: float = Field(gt=0.5, le=MAX_HOURS)
    commit_minutes: float = Field(default=10, gt=0)
    parameters: dict[str, Any] = {}

    @field_validator("datasets")
    @classmethod
    def _owner_and_slug(cls, sources: list[str]) -> list[str]:
        for source in sources:
            if source.count("/") != 1:
                raise ValueError(f"{source}: must be owner/slug")
        return sources

    @field_validator("models")
    @classmethod
    def _four_slashes(cls, sources: list[str]) -> list[str]:
        for source in sources:
            if source.count("/") != 4 or not source.rsplit("/", 1)[1].isdigit():
                raise ValueError(f"{source}: must be owner/model/framework/variation/version")
        return sources

    def metadata(self, user: str | None, dataset: Dataset) -> dict[str, Any]:
        """kernel-metadata.json with every field said, since the client's defaults differ from its documentation:
        without `enable_internet` it pushes true."""
        owner = user or NOBODY
        return {
            "id": f"{owner}/{self.slug}",
            "title": self.title,
            "code_file": f"{self.slug}.ipynb",
            "language": "python",
            "kernel_type": "notebook",
            "is_private": True,
            "enable_gpu": self.machine_shape != "None",
            "enable_tpu": False,
            "enable_internet": False,
            "machine_shape": self.machine_shape,
            "dataset_sources": [f"{owner}/{dataset.slug}", *self.datasets],
            "competition_sources": [self.competition] if self.competition else [],
            "kernel_sources": [],
            "model_sources": self.models,
            "keywords": [],
            "docker_image_pinning_type": "original",
        }

    def checked(self) -> tuple[Notebook, dict[str, Any]]:
        """Its notebook and its parameters with their types. Raises ConfigError, one line."""
        notebook = find_notebook(self.notebook)
        return notebook, notebook.check({name: _word(value) for name, value in self.parameters.items()})


class Table(BaseModel):
    """kernels.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: Dataset
    kernels: list[Kernel] = Field(min_length=1)

    @model_validator(mode="after")
    def _slugs_are_unique(self) -> "Table":
        slugs = [kernel.slug for kernel in self.kernels]
        for slug in slugs:
            if slugs.count(slug) > 1:
                raise ValueError(f"kernels: the slug {slug} appears twice")
        return self

    def kernel(self, slug: str) -> Kernel:
        """The row of a slug. Raises ConfigError with the slugs there are."""
        for kernel in self.kernels:
            if kernel.slug == slug:
                return kernel
        raise ConfigError(f"kernel = {slug}: must be one of {', '.join(k.slug for k in self.kernels)}")


def read_table(path: str | Path = TABLE) -> Table:
    """Read and check kernels.yaml. Raises ConfigError, one line: where, what, what is allowed."""
    path = resolve_path(path)
    try:
        return Table.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {place}: {first['msg']}, got {str(first['input'])[:60]}") from None


def missing_wheels(kernels: Iterable[Kernel], pinned: Iterable[str]) -> list[str]:
    """The packages that kernels name and the list of wheels does not have."""
    return sorted({name for kernel in kernels for name in kernel.wheels} - set(pinned))


def _word(value: Any) -> str:
    """A YAML value as a word of the command line, which is what a notebook's parameters are checked from."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
