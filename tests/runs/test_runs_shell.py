"""What a reader in JupyterLab sees of a run: folded parameters, one-line errors, ^C that says how to go on."""

from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from arc_helpers.runs import ConfigError, resolve, shell
from arc_helpers.runs.shell import show_parameters, tell_in_one_line


@pytest.fixture
def kernel(monkeypatch):
    """An IPython shell that passes for a kernel's; gives it and what it prints of an error."""
    own = InteractiveShell()
    own.kernel, seen = SimpleNamespace(), []
    monkeypatch.setattr(shell, "_shell", lambda: own)
    monkeypatch.setattr(own, "_showtraceback", lambda kind, error, lines: seen.append(lines))
    own.push({"ConfigError": ConfigError})
    return own, seen


def test_our_errors_are_one_line_and_others_are_not(kernel):
    own, seen = kernel
    tell_in_one_line("the folder")
    assert own.run_cell("raise ConfigError('k = 0: must be >= 1')").error_in_exec is not None, "it still fails"
    own.run_cell("raise KeyboardInterrupt")
    own.run_cell("int('x')")
    assert seen[0] == ["ConfigError: k = 0: must be >= 1"]
    assert seen[1] == ["Stopped. Run the notebook from its top to go on: what was finished is in the folder"]
    assert len(seen[2]) > 1 and "invalid literal" in seen[2][-1]


def test_the_setup_tells_each_value_and_where_it_comes_from(kernel, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    config = resolve("02_multilora_ttt", "tiny", {"k": 2, "steps": 7})
    cells = ["k = 2", "# Parameters\nprofile = 'tiny'\nsteps = 7\n"]
    show_parameters(config, {"k": 2, "steps": 7, "views": None}, "tiny", cells)
    (data,) = shown
    total = len(type(config).model_fields)
    assert data["text/plain"] == f"2 of {total} parameters set, the others are those of the profile tiny"
    table = data["text/html"]
    assert "<td>k</td><td>2</td><td>here</td>" in table and "<td>steps</td><td>7</td><td>command</td>" in table
    assert "<td>views</td><td>2</td><td>profile tiny</td>" in table and table.count("<tr>") == total + 1
    assert table.index("<td>steps</td>") < table.index("<td>model_dir</td>"), "what was set comes first"
    assert "augmented views that vote" in table and table.startswith("<details>")


def test_outside_a_notebook_nothing_is_shown(capsys):
    tell_in_one_line("x")
    show_parameters(resolve("02_multilora_ttt", "tiny", {}), {}, "tiny")
    assert capsys.readouterr().out == ""
