"""Runs notebooks one after another in this process, every cell, on the simulated GPU that ARC_SIMULATED_CUDA asks for.

    run_notebooks.py OUT_DIR '{"01_tokenization_debug": {"num_pseudo": 2}, …}'

One process, since importing torch and transformers takes longer than most notebooks at `tiny`. A line of JSON a
notebook: {"notebook", "seconds", "cells", "peak_bytes", "error"}; what the cells print goes to OUT_DIR/<notebook>.txt.
"""

import contextlib
import json
import sys
import time
import traceback
from pathlib import Path

import nbformat
import torch
from IPython.core.interactiveshell import InteractiveShell

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run_notebook(shell: InteractiveShell, name: str, values: dict, out: Path) -> dict:
    """Execute every cell; what became of it."""
    torch.cuda.reset_peak_memory_stats()
    shell.reset(new_session=True)
    began, cells, error = time.process_time(), 0, ""
    with open(out / f"{name}.txt", "w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
            if cell.cell_type != "code":
                continue
            result = shell.run_cell(cell.source)
            cells += 1
            if "parameters" in cell.metadata.get("tags", []):
                shell.push({"profile": "tiny", "out_dir": str(out / name), **values})
            problem = result.error_before_exec or result.error_in_exec
            if problem is not None:
                error = f"cell {cells}:\n{cell.source}\n\n{''.join(traceback.format_exception(problem))}"
                break
    seconds, peak = round(time.process_time() - began, 1), torch.cuda.max_memory_allocated()
    return {"notebook": name, "seconds": seconds, "cells": cells, "peak_bytes": peak, "error": error}


def main() -> None:
    out, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    shell = InteractiveShell.instance()
    for name, values in asked.items():
        print(json.dumps(run_notebook(shell, name, values, out)), flush=True)


if __name__ == "__main__":
    main()
