"""What a reader in JupyterLab sees of a run: its effective parameters as a folded table, and errors as one line."""

import html
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from arc_helpers.runs.explain import show
from arc_helpers.runs.knobs import Knobs

INJECTED = "# Parameters\n"  # how papermill begins the cell with the values of a command


def show_parameters(config: Knobs, given: Mapping[str, Any], profile: str, cells: Sequence[str] = ()) -> None:
    """Show every knob of a run: name, value, where it comes from, meaning. Only what was set is seen before a click.

    given: values that are not the profile's, None where they are. cells: what the kernel has run.
    """
    if _shell() is None:
        return
    from IPython.display import display

    set_here = {name for name, value in given.items() if value is not None}
    injected = "".join(cell for cell in cells if cell.startswith(INJECTED))
    rows = [(name, show(value), _origin(name, set_here, injected, profile)) for name, value in config]
    rows.sort(key=lambda row: row[0] not in set_here)
    body = "".join(
        f"<tr><td>{name}</td><td>{html.escape(value)}</td><td>{origin}</td>"
        f"<td style='text-align:left'>{html.escape(type(config).model_fields[name].description or '')}</td></tr>"
        for name, value, origin in rows
    )
    told = f"{len(set_here)} of {len(rows)} parameters set, the others are those of the profile {html.escape(profile)}"
    head = "<tr><th>name</th><th>value</th><th>from</th><th style='text-align:left'>meaning</th></tr>"
    table = f"<details><summary>{told}</summary><table>{head}{body}</table></details>"
    display({"text/html": table, "text/plain": told}, raw=True)


def tell_in_one_line(folder: str) -> None:
    """From now on errors of this package, which say in a line what was wrong, come without a traceback in JupyterLab
    (%tb shows it), and ^C or ■ with how to go on. folder: what the run has written is there."""
    shell = _shell()
    if shell is None:
        return

    def told(shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: Any = None) -> list[str]:
        if kind is KeyboardInterrupt:
            lines = [f"Stopped. Run the notebook from its top to go on: what was finished is in {folder}"]
        elif kind.__module__.startswith("arc_helpers.") and "\n" not in str(error):
            lines = [f"{kind.__name__}: {error}"]
        else:
            lines = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
        shell._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((ValueError, KeyboardInterrupt), told)


def _origin(name: str, set_here: set[str], injected: str, profile: str) -> str:
    if name not in set_here:
        return f"profile {html.escape(profile)}"
    return "command" if f"\n{name} = " in injected else "here"


def _shell() -> Any:
    """The kernel's shell; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None
