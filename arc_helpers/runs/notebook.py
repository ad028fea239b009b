"""A notebook as a command: its parameters, checked before anything is loaded, and one headless run of it."""

import ast
import io
import json
import logging
import os
import re
import sys
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_helpers.runs.check import open_folder, page, require
from arc_helpers.runs.config import ConfigError, check_run, resolve, section
from arc_helpers.runs.env import home, output_path, project_root, resolve_path
from arc_helpers.runs.explain import explain_unknown
from arc_helpers.runs.folder import read_marker
from arc_helpers.runs.knobs import NOTEBOOKS, RunKnobs

GUIDE = "START_HERE"  # the notebook that leads to the others; it leaves no run behind
#: tags of the cells that hold parameters: those that most people set, and all others. papermill, which knows only the
#: second name, puts a command's values behind that one
TOP, REST = "main-parameters", "parameters"
TEACHING = "teaching"  # the tag of a cell that shows something, and that no answer depends on
EXERCISE, SOLUTION = "exercise", "solution"  # of a question at a notebook's end, and of the folded cell below it


class NotebookFailed(RuntimeError):
    """A cell raised, timed out, or the kernel died. One line."""


def forget_python(model: dict[str, Any], **_: Any) -> None:
    """What JupyterLab calls before it saves (`make lab`): a notebook does not say which Python it was opened with.

    JupyterLab writes that into every notebook whose kernel has started, so that looking at one would change it.
    """
    if model["type"] == "notebook" and model.get("content"):
        model["content"]["metadata"].pop("language_info", None)


@dataclass(frozen=True)
class Parameter:
    """One line `name: type = default  # help` of a parameters cell; default is Python source."""

    name: str
    type: str
    default: str
    help: str


@dataclass(frozen=True)
class Notebook:
    """A notebook file and what its parameters cell says."""

    path: Path
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """Its file name without the suffix, such as "02_multilora_ttt"."""
        return self.path.stem

    def check(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The given values with the types the notebook wants; "None" is left out, the profile's value. Raises
        ConfigError, one line."""
        given = {name: value for name, value in given.items() if value != "None" or name not in self.parameters}
        for name, value in given.items():
            if name not in self.parameters:
                raise ConfigError(explain_unknown(f"{section(self.name)}.{name}", value, self.parameters))
        own = check_run(**self._own_defaults() | {k: v for k, v in given.items() if k in RunKnobs.model_fields})
        knobs = {k: v for k, v in given.items() if k not in RunKnobs.model_fields}
        config = resolve(self.name, own.profile, knobs)
        typed = {name: getattr(own if name in RunKnobs.model_fields else config, name) for name in given}
        # "0" and "" lift a limit and come back as None, which in a notebook means the profile's value.
        return {k: (0 if given[k] else "") if v is None else v for k, v in typed.items()}

    def out_dir(self, values: Mapping[str, Any]) -> Path:
        """Where a run with these values writes."""
        chosen = values.get("out_dir") or self._own_defaults().get("out_dir")
        return output_path(chosen or Path("artifacts") / self.name)

    def run(self, values: Mapping[str, Any], output: str | Path | None = None, cell_timeout: int | None = None) -> Path:
        """Execute with checked values, in this very interpreter's kernel; returns the executed notebook.

        output: its path; None means <out_dir>/<name>.ipynb. cell_timeout: seconds one cell may take.
        What the notebook prints is printed here too. A run that a hung device has ended before its time goes on once
        in a second kernel. Raises ConfigError, one line, where its folder is refused;
        NotebookFailed, with the notebook written up to the failing cell, and KeyboardInterrupt once its kernel is gone.
        """
        target = output_path(output) if output else self.out_dir(values) / f"{self.name}.ipynb"
        self._execute(values, target, cell_timeout)
        if self._unfinished(values):
            print(f"{self.name}: not all was done; once more, in another kernel", file=sys.stderr)
            self._execute({name: value for name, value in values.items() if name != "fresh"}, target, cell_timeout)
        return target

    def _execute(self, values: Mapping[str, Any], target: Path, cell_timeout: int | None) -> None:
        import papermill
        from ipykernel.kernelspec import get_kernel_dict
        from jupyter_client.kernelspec import KernelSpec
        from jupyter_client.manager import AsyncKernelManager
        from nbclient.exceptions import CellTimeoutError, DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        class ThisInterpreter(AsyncKernelManager):
            """A "python3" kernel that some other installation registered must not run our notebooks."""

            # That log is the kernel's chatter about local TCP and interrupts; cells report by protocol.
            kernel_spec = KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]), env={"ARC_HEADLESS": "1"})

        # Names are checked by now, and papermill warns of every `int | None` that it cannot read; what ends a run is
        # said once, below, not by it and by asyncio as well.
        for name in ("papermill", "traitlets", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._own_folder(values)  # first, for papermill writes into it
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._copy_to(target)
        except OSError as error:
            raise ConfigError(f"{target}: cannot be written ({error.strerror})") from None
        try:
            papermill.execute_notebook(
                target,
                target,
                parameters=dict(values),
                kernel_name="python3",
                language="python",
                kernel_manager_class=ThisInterpreter,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                execution_timeout=cell_timeout,
                cwd=project_root(),
            )
        except PapermillExecutionError:
            for taught, line in failures(target):
                if not taught:
                    raise NotebookFailed(f"{self.name} failed in {line} (see {target})") from None
                print(f"{self.name}: a teaching {line}; the run went on (see {target})", file=sys.stderr)
        except CellTimeoutError:
            raise NotebookFailed(f"{self.name}: a cell ran longer than {cell_timeout} s (see {target})") from None
        except DeadKernelError:
            raise NotebookFailed(f"{self.name}: its kernel died, maybe out of memory (see {target})") from None

    def _unfinished(self, values: Mapping[str, Any]) -> bool:
        """Whether a notebook that has run to its end has left work (`RunLog.leave_unfinished`)."""
        marker = read_marker(self.out_dir(values)) if section(self.name) in NOTEBOOKS else None
        return marker is not None and marker.state == "running"

    def _copy_to(self, target: Path) -> None:
        """The notebook as it is executed: a cell that only teaches may fail, and the work after it goes on."""
        import nbformat

        notebook = nbformat.read(self.path, as_version=4)
        for cell in notebook.cells:
            if TEACHING in cell.metadata.get("tags", []):
                cell.metadata.tags.append("raises-exception")  # nbclient's word
        nbformat.write(notebook, target)

    def page(self, values: Mapping[str, Any]) -> tuple[list[str], bool]:
        """What can be known before the work begins: lines for people, and whether all is well."""
        cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        prose = "\n\n".join("".join(cell["source"]) for cell in cells)
        told = re.search(r"\*\*Time\*\* (.+?)(\n\n|$)", prose, re.S)
        return page(self.name, *self._resolved(values), " ".join(told[1].split()) if told else "")

    def _own_folder(self, values: Mapping[str, Any]) -> None:
        """Make the run's folder ready, an earlier run in it set aside."""
        if section(self.name) in NOTEBOOKS:
            own, config = self._resolved(values)
            require(self.name, own, config)
            open_folder(self.name, own, config).prepare(own.fresh)

    def _resolved(self, values: Mapping[str, Any]) -> tuple[RunKnobs, Any]:
        own = check_run(**self._own_defaults() | {k: v for k, v in values.items() if k in RunKnobs.model_fields})
        knobs = {k: v for k, v in values.items() if k not in RunKnobs.model_fields}
        return own, resolve(self.name, own.profile, knobs)

    def _own_defaults(self) -> dict[str, Any]:
        names = [name for name in RunKnobs.model_fields if name in self.parameters]
        return {name: ast.literal_eval(self.parameters[name].default) for name in names}


def failures(path: Path) -> list[tuple[bool, str]]:
    """Each cell of an executed notebook that failed: whether it only teaches, and "cell 5: ValueError: why"."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                line = f"cell {cell['execution_count']}: {output['ename']}: {output['evalue']}".splitlines()[0]
                found.append((TEACHING in cell["metadata"].get("tags", []), line))
    return found


def find_notebook(word: str) -> Notebook:
    """The notebook called "2", "02", "02_multilora_ttt", "multilora_ttt", or the path of an .ipynb file.

    Raises ConfigError with the names there are.
    """
    paths = list_notebooks()
    if word.endswith(".ipynb"):
        path = resolve_path(word)
        found = [path] if path.is_file() else []
    else:
        names = (word, word.zfill(2))
        found = [path for path in paths if {path.stem, *path.stem.split("_", 1)}.intersection(names)]
    if len(found) != 1:
        known = ", ".join(path.stem for path in paths) or f"(none in {_folder()})"
        raise ConfigError(f"notebook = {word}: must be one of {known}")
    return Notebook(found[0], read_parameters(found[0]))


def read_parameters(path: str | Path) -> dict[str, Parameter]:
    """What the cells tagged "main-parameters" and "parameters" assign; {} without such a cell.

    papermill.inspect_notebook does the same, but loses `k: int | None = None` and any help that has an "=".
    """
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]  # nbformat takes a second to import
    tagged = [cell for cell in cells if {TOP, REST} & set(cell.get("metadata", {}).get("tags", []))]
    source = "\n".join("".join(cell["source"]) for cell in tagged)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    parameters = {}
    for node in ast.parse(source).body:
        target: ast.expr
        if isinstance(node, ast.AnnAssign) and node.value:
            target, kind = node.target, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            target, kind = node.targets[0], ""
        else:
            continue
        name, help = ast.unparse(target), comments.get(node.end_lineno, "")
        parameters[name] = Parameter(name, kind, ast.unparse(node.value), help)
    return parameters


def list_notebooks() -> list[Path]:
    """Every notebook of the project that makes a run, by number."""
    return sorted(path for path in _folder().glob("*.ipynb") if path.stem != GUIDE)


def parse_words(words: Sequence[str]) -> dict[str, str]:
    """{name: value} out of "--name value", "--name=value" and "name=value".

    Raises ConfigError, one line, on any other word.
    """
    values: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            if not word.startswith("--"):
                raise ConfigError(f"{word}: must be name=value or --name value")
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"{word}: needs a value")
            value = rest.pop(0)
        values[name.replace("-", "_")] = value
    return values


def _folder() -> Path:
    """Tests bring their own notebooks by ARC_NOTEBOOKS."""
    return Path(os.environ.get("ARC_NOTEBOOKS") or home() / "notebooks")
