"""Only `runs.choose_device` names a device; everything else takes it from a tensor or a module that it was given."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = "arc_helpers/runs/env.py"
NAME = re.compile(r"(cuda|cpu|mps|xpu)(:\d*)?")
CALLS = ("torch.cuda.is_available", "torch.cuda.set_device")  # somebody chooses for himself


def named_devices(source: str) -> list[str]:
    """Lines that name a device: "cuda", "cpu" and the like, `.cuda()`, or a question that is choose_device's own.

    Not counted: what a given device is compared with, what choose_device prefers, moving to the computer's own memory
    (`.to("cpu")`; elsewhere it is `runs.HOST`), and options that are called so.
    """
    tree, found = ast.parse(source), []
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        text = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
        named = isinstance(text, ast.Constant) and isinstance(text.value, str) and NAME.fullmatch(text.value)
        called = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else None
        chosen = called is not None and (called.attr == "cuda" or ast.unparse(called) in CALLS)
        if chosen or (named and not _is_allowed(node, parents[node])):
            found.append(node)
    lines = source.splitlines()
    return [f"{node.lineno}: {lines[node.lineno - 1].strip()}" for node in found]


def _is_allowed(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(parent, ast.JoinedStr):
        return True  # the f-string itself is looked at
    if isinstance(parent, ast.Call):
        called = ast.unparse(parent.func)
        to_host = called.endswith(".to") and getattr(node, "value", "") == "cpu"
        return to_host or called.endswith(("choose_device", ".startswith"))
    if isinstance(parent, ast.keyword):
        return parent.arg == "default"
    return isinstance(parent, ast.Compare | ast.Dict)


@pytest.mark.parametrize("folder", ["arc_helpers", "benchmarks", "notebooks"])
def test_only_choose_device_names_a_device(folder):
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name != OWN and (lines := named_devices(path.read_text(encoding="utf-8"))):
            found[name] = lines
    assert found == {}


def test_the_rule_sees_what_it_forbids():
    bad = ['x.to("cuda")', 'f(device="cpu")', "x.cuda()", 'torch.device(f"cuda:{i}")', "torch.cuda.is_available()"]
    bad += ['def f(device="cpu"): ...', 'd = "cuda" if many else "cpu"', 'torch.autocast("cuda")']
    assert all(named_devices(line) for line in bad)
    good = ['x.device.type == "cuda"', 'choose_device("cpu")', 'x.to("cpu", copy=True)', "x.cpu()"]
    good += ['d.startswith("cuda")', "torch.cuda.mem_get_info(x.device)", 'torch.device("meta")']
    assert not any(named_devices(line) for line in good)


def test_a_notebook_compares_numbers_by_dtype():
    """No tolerance is written down in a notebook: they are `runs.tolerance`'s."""
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                numbers = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
                small = [n for n in numbers if isinstance(n, float) and 0 < n < 0.01]
                assert not small, f"{path.name}:{node.lineno}: {small}"
