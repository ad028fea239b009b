"""What a kernel really runs with: every parameter and where its value comes from; and how long that may take."""

import subprocess
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from arc_helpers.arc import load_tasks
from arc_helpers.kaggle.kernels import Kernel
from arc_helpers.kaggle.submission_mode import RESERVE
from arc_helpers.runs import ConfigError, load_profile
from arc_helpers.runs.config import section
from arc_helpers.runs.knobs import RunKnobs
from arc_helpers.runs.notebook import Notebook, read_parameters

#: {machine shape: (data sheet of planner.py, how many there are)}
CARDS = {"NvidiaTeslaT4": ("T4", 2), "NvidiaL4": ("L4", 4), "NvidiaL4X1": ("L4", 1), "NvidiaTeslaA100": ("A100", 1)}
CARDS |= {"NvidiaH100": ("H100", 1)}
HIDDEN_TASKS, LIKE = (
    240,
    "arcagi2/evaluation",
)  # how many a rerun has, and the public ones that they are taken to be like
#: what submission_mode.py sets on Kaggle
THERE = ("out_dir", "data_dir", "solutions", "frontier", "deadline_seconds", "workers")


def check_parameters_cell(notebook: Notebook) -> None:
    """Raises ConfigError, one line, where a parameters cell differs from the committed one: what was tried by hand must
    not become a submission. Without git, every knob has to be None."""
    committed = _committed(notebook.path)
    for name, parameter in notebook.parameters.items():
        if committed is None and name in RunKnobs.model_fields:
            continue
        was = "None" if committed is None else committed.get(name, "nothing")
        if parameter.default != was:
            raise ConfigError(
                f"{notebook.path.name}: its parameters cell holds {name} = {parameter.default} ({was} is committed): "
                "undo it, or set it in the row's `parameters`"
            )


def _committed(path: Path) -> dict[str, str] | None:
    """{parameter: default} of the notebook as it is committed; None where git does not know it."""
    git = ["git", "-C", str(path.parent), "show", f"HEAD:./{path.name}"]
    try:
        text = subprocess.run(git, capture_output=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, path.name)
        copy.write_bytes(text)
        return {name: parameter.default for name, parameter in read_parameters(copy).items()}


def effective_lines(kernel: Kernel) -> Iterator[str]:
    """A line a parameter: name, value, and whether the row, the notebook, the profile or Kaggle decides it."""
    notebook, values = kernel.checked()
    defaults = {name: parameter.default for name, parameter in notebook.parameters.items()}
    profile = values.get("profile", "laptop")
    knobs = getattr(load_profile(profile), section(notebook.name)).model_dump()
    for name, default in defaults.items():
        origin = f"profile {profile}"
        value: Any = knobs.get(name)
        if default != "None":
            value, origin = default, "the notebook"
        if name in values:
            value, origin = values[name], "kaggle/kernels.yaml"
        if kernel.competition and name in THERE:
            origin += ", but the run on Kaggle decides"
        yield f"  {name} = {value} ({origin})"


def forecast_line(kernel: Kernel) -> str:
    """How long the row's settings are likely to take for the hidden tasks, by the planner's data sheets."""
    from arc_helpers.kaggle.planner import FORMS, GPUS, base_of, estimate, forecast, groups_of, size_of
    from arc_helpers.runs import resolve
    from arc_helpers.ttt.settings import settings_from

    notebook, values = kernel.checked()
    if not notebook.name.startswith("02") or not kernel.competition or kernel.machine_shape not in CARDS:
        return "forecast: none, since the planner knows notebook 02 on a competition's tasks"
    sheet, cards = CARDS[kernel.machine_shape]
    knobs = {name: value for name, value in values.items() if name != "profile"}
    config = resolve(notebook.name, values.get("profile", "laptop"), knobs)
    try:
        base = base_of(config.model_dir)
    except ConfigError as error:
        return f"forecast: none: {error}"
    settings, form = settings_from(config, 0), FORMS["suite"]
    tasks = list(islice(cycle([task.without_answers() for task in load_tasks(LIKE)]), HIDDEN_TASKS))
    groups = groups_of(tasks, settings.k, form, config.max_len)
    sizes = [[size_of(task, form, config.max_len) for task in group] for group in groups]
    seconds = forecast(sizes, settings, estimate(GPUS[sheet], base, config.quantization != "none")) / cards
    limit = kernel.hours * 3600 - RESERVE
    verdict = "fits" if seconds <= limit else "DOES NOT FIT: steps and views will be cut"
    what = f"{HIDDEN_TASKS} tasks like {LIKE} on {cards} × {sheet}, by data sheets"
    return f"forecast: {seconds / 3600:.1f} h of {limit / 3600:.1f} h for {what}: {verdict}"
