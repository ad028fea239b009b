import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from arc_helpers.cli import app
from arc_helpers.runs import ConfigError, RunFolder
from arc_helpers.runs.notebook import Notebook, find_notebook, parse_words

PARAMETERS = """\
profile: str = "tiny"  # which values: tiny, laptop, gpu, kaggle
seed: int = 0  # of everything
out_dir: str = "artifacts/02_multilora_ttt"  # where results go
k: int | None = None  # tasks trained at once; 1 = alone
steps: int | None = None  # training steps
lr: float | None = None
max_side: int | None = None
max_len: int | None = None
task_ids: str | None = None  # ids, "a,b"
use_rslora: bool | None = None
"""
FAIL = """\
import os, sys, time
if steps == 13:
    raise ValueError("thirteen is\\nunlucky")
if steps == 14:
    os.kill(os.getpid(), 9)
if steps == 15:
    time.sleep(60)
"""
START = """\
from arc_helpers.runs import start
knobs = dict(k=k, steps=steps, lr=lr, max_side=max_side, task_ids=task_ids, use_rslora=use_rslora)
run = start("02_multilora_ttt", profile=profile, seed=seed, out_dir=out_dir, max_len=max_len, **knobs)
"""
FINISH = """\
run.log.close(python=sys.executable, kind=run.env.kind, cwd=os.getcwd(), **run.config.model_dump())
"""


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, FAIL, START, FINISH)]
    cells[0].metadata.tags = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "02_multilora_ttt.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), folder / "01_tokenization_debug.ipynb")
    return folder


@pytest.fixture
def cli(notebooks, monkeypatch):
    monkeypatch.setenv("ARC_NOTEBOOKS", str(notebooks))

    def call(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    return call


def test_help_is_friendly(cli):
    for words in ((), ("--help",)):
        result = cli(*words)
        assert result.exit_code == 0
        assert all(f"\n  {verb} " in result.stdout for verb in ("run", "data", "validate", "score", "merge", "info"))
    result = cli("run", "--help")
    assert result.exit_code == 0 and "01_tokenization_debug, 02_multilora_ttt" in result.stdout
    assert cli("run").exit_code == 2


def test_help_of_a_notebook_is_its_parameters_cell(cli):
    out = cli("run", "02", "--help").stdout
    assert "--k: int | None = None\n        tasks trained at once; 1 = alone\n" in out
    assert "--profile: str = 'tiny'\n" in out
    assert '--task_ids: str | None = None\n        ids, "a,b"\n' in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["02", "--k", "0"], "multilora_ttt.k = 0: must be >= 1"),
        (["02", "--k=0"], "multilora_ttt.k = 0: must be >= 1"),
        (["2", "k=0"], "multilora_ttt.k = 0: must be >= 1"),
        (["02_multilora_ttt", "--steps", "-1"], "multilora_ttt.steps = -1: must be >= 0"),
        (["multilora_ttt", "steps=-1"], "multilora_ttt.steps = -1: must be >= 0"),
        (["02", "--k", "two"], "multilora_ttt.k = two: must be an integer"),
        (["02", "--k"], "--k: needs a value"),
        (["02", "--k", "--steps", "3"], "--k: needs a value"),
        (["02", "--lr", "fast"], "multilora_ttt.lr = fast: must be a number"),
        (["02", "--max-len", "3"], "multilora_ttt.max_len = 3: must be >= 16"),
        (["02", "--max_len", "3"], "multilora_ttt.max_len = 3: must be >= 16"),
        (["02", "--profile", "big"], "profile = big: must be 'tiny', 'laptop', 'gpu' or 'kaggle'"),
        (["02", "--seed", "x"], "seed = x: must be an integer"),
        (
            ["02", "--stepz", "3"],
            "multilora_ttt.stepz = 3: unknown; did you mean steps? allowed: profile, seed, out_dir, k, steps, "
            "lr, max_side, max_len, task_ids, use_rslora",
        ),
        (["02", "k"], "k: must be name=value or --name value"),
        (["09"], "notebook = 09: must be one of 01_tokenization_debug, 02_multilora_ttt"),
        (["nope.ipynb"], "notebook = nope.ipynb: must be one of 01_tokenization_debug, 02_multilora_ttt"),
    ],
)
def test_bad_parameters_are_one_line_and_exit_code_2(cli, words, message):
    result = cli("run", *words)
    assert (result.exit_code, result.stderr, result.stdout) == (2, message + "\n", "")


def test_a_bad_parameter_loads_nothing(notebooks):
    """Neither torch nor papermill: the answer comes at once."""
    code = (
        "import sys; from arc_helpers.cli import app\n"
        "try: app(['run', '02', '--k', '0'])\n"
        "except SystemExit as stop: print(stop.code, {'torch', 'papermill'} & set(sys.modules))"
    )
    env = {**os.environ, "ARC_NOTEBOOKS": str(notebooks)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert result.stdout == "2 set()\n"


def test_words():
    assert parse_words(["--a-b", "1", "c=x=y", "--d=-2", "--e", "-3", "--g", "a=b"]) == {
        "a_b": "1",
        "c": "x=y",
        "d": "-2",
        "e": "-3",
        "g": "a=b",
    }
    with pytest.raises(ConfigError, match=r"^x: must be name=value or --name value$"):
        parse_words(["x"])


def test_values_get_the_notebooks_types(cli, notebooks):
    given = {
        "k": "2",
        "lr": "1e-4",
        "task_ids": "00576224",
        "use_rslora": "no",
        "max_side": "0",
        "seed": "7",
    }
    assert find_notebook("02").check(given) == {
        "k": 2,
        "lr": 1e-4,
        "task_ids": "00576224",
        "use_rslora": False,
        "max_side": 0,  # lifts the profile's limit; None would mean the profile's value
        "seed": 7,
    }
    assert find_notebook(str(notebooks / "02_multilora_ttt.ipynb")).check({"task_ids": ""}) == {"task_ids": ""}


@pytest.fixture(scope="module")
def other_python3(tmp_path_factory):
    """A kernel called python3, where Jupyter looks first, that is not our interpreter and does not work."""
    folder = tmp_path_factory.mktemp("jupyter")
    spec = folder / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["/bin/false", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Other", "language": "python"}))
    return folder


@pytest.mark.notebook
def test_run(cli, tmp_path, monkeypatch, other_python3):
    monkeypatch.setenv("JUPYTER_PATH", str(other_python3))
    words = [
        "--k",
        "2",
        "max_side=0",
        "--task-ids",
        "00576224",
        "--max-len",
        "64",
        "--out-dir",
        tmp_path / "out",
    ]
    result = cli("run", "02", *words)
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert Path(summary["python"]) == Path(sys.executable)
    assert (summary["kind"], summary["k"], summary["max_len"]) == ("papermill", 2, 64)
    assert (summary["max_side"], summary["task_ids"]) == (None, "00576224")
    assert summary["cwd"] == str(Path(__file__).parents[1])
    executed = nbformat.read(tmp_path / "out/02_multilora_ttt.ipynb", as_version=4)
    assert executed.metadata.papermill.exception is None
    # What the notebook printed, then its numbers, then where it is.
    assert "02_multilora_ttt, profile tiny, seed 0, max_len=64, k=2, " in result.stdout
    assert result.stdout.splitlines()[-1] == f"notebook: {tmp_path / 'out/02_multilora_ttt.ipynb'}"
    assert any(line.split() == ["k", "2"] for line in result.stdout.splitlines())
    assert "version_torch" not in result.stdout
    assert "ARC_HEADLESS" not in os.environ


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (13, "02_multilora_ttt failed in cell 3: ValueError: thirteen is (see {0})"),
        (14, "02_multilora_ttt: its kernel died, maybe out of memory (see {0})"),
        (15, "02_multilora_ttt: a cell ran longer than 2 s (see {0})"),
    ],
)
def test_a_failing_run_says_where_and_keeps_the_notebook(cli, tmp_path, steps, message):
    words = ["--steps", steps, "--out_dir", tmp_path, "--output", tmp_path / "it.ipynb"]
    result = cli("run", "02", *words, *(["--timeout", "2"] if steps == 15 else []))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == message.format(tmp_path / "it.ipynb")
    executed = nbformat.read(tmp_path / "it.ipynb", as_version=4)
    assert any(f"steps = {steps}" in cell.source for cell in executed.cells)
    assert not (tmp_path / "summary.json").exists()


GRID = [[1, 2], [3, 4]]
TASK = {"train": [{"input": [[0]], "output": [[1]]}], "test": [{"input": [[5]], "output": GRID}]}


def attempts(first, second=((0,),)):
    return [{"attempt_1": first, "attempt_2": [list(row) for row in second]}]


@pytest.fixture
def tasks(tmp_path):
    """A folder with the tasks a and b, both answered by GRID."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.json").write_text(json.dumps(TASK))
    return folder


@pytest.fixture
def submit(tmp_path):
    def write(content):
        path = tmp_path / "submission.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_validate(cli, tasks, submit):
    good = submit({"a": attempts(GRID), "b": attempts([[0]])})
    result = cli("validate", good, "--data", tasks)
    assert (result.exit_code, result.stdout) == (0, "valid: 2 tasks, 2 outputs\n")
    result = cli("validate", submit({"a": attempts([[10]])}), "--data", tasks)
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 2
    assert "task b: is missing" in result.stdout
    result = cli("validate", submit({"a": attempts(GRID)}), "--data", tasks, "--partial")
    assert (result.exit_code, result.stdout) == (0, "valid: 1 tasks, 1 outputs\n")
    assert cli("validate", submit({"x": attempts(GRID)}), "--data", tasks, "--partial").exit_code == 1


def test_merge(cli, submit, tmp_path):
    files = [submit({"a": attempts(GRID)}).rename(tmp_path / "first.json"), submit({"a": attempts([[3]])})]
    out = tmp_path / "merged.json"
    assert cli("merge", *files, "--out", str(out)).stdout.endswith("1 tasks out of 2 submissions\n")
    assert [*json.loads(out.read_text())["a"][0].values()] == [GRID, [[3]]]
    result = cli("merge", files[0], "--out", str(out))
    assert (result.exit_code, result.stderr) == (2, "merge: expected at least two submissions, got 1\n")


@pytest.mark.parametrize("verb", ["validate", "score"])
@pytest.mark.parametrize(
    ("content", "data", "message"),
    [
        ("{", "tasks", "JSON"),
        ("[]", "tasks", "expected a mapping"),
        (None, "tasks", "submission.json"),
        ("{}", "nowhere", "nowhere: no such file, folder or set; allowed are"),
    ],
)
def test_unreadable_files_are_one_line(cli, tasks, submit, tmp_path, verb, content, data, message):
    submission = tmp_path / "submission.json" if content is None else submit(content)
    result = cli(verb, submission, "--data", tmp_path / data)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.output
    assert message in result.stderr


def test_score(cli, tasks, submit, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/a.txt").write_text("MODEL OUTPUT 1\n12\n34\n")
    submission = submit({"a": attempts([[0]], GRID), "b": attempts([[0]])})
    words = ["--data", tasks, "--out", tmp_path / "scores.json", "--predictions", tmp_path / "predictions"]
    result = cli("score", submission, *words)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "a  1.00",
        "b  0.00",
        "score 0.5000 over 2 tasks (95 % interval 0.0945 to 0.9055), 1 tasks and 1 of 2 outputs solved",
        f"1 texts in {tmp_path / 'scored'}",
    ]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["task_score"] == 0.5 and scores["per_task"] == {"a": 1.0, "b": 0.0}
    assert (tmp_path / "scored/a.txt").read_text() == "MODEL OUTPUT 1\n12\n34\n\nTRUE OUTPUT 1\n12\n34\n"


def test_score_wants_every_task_unless_told_otherwise(cli, tasks, submit):
    submission = submit({"a": attempts(GRID)})
    result = cli("score", submission, "--data", tasks)
    assert result.exit_code == 1 and result.stderr == f"{submission}: task b: is missing\n"
    result = cli("score", submission, "--data", tasks, "--partial")
    assert result.exit_code == 0 and "score 1.0000 over 1 tasks of the submission alone" in result.stdout


def test_score_draws_attempts_beside_the_truth(cli, tasks, submit, tmp_path):
    submission = submit({"a": attempts(GRID), "b": attempts([[0]])})
    result = cli("score", submission, "--data", tasks, "--figures", tmp_path / "figures")
    assert result.stdout.endswith(f"2 pictures in {tmp_path / 'figures'}\n")
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(pictures) == {"a_solved.png", "b.png"} and all(p.startswith(b"\x89PNG") for p in pictures.values())


def test_score_draws_answers_before_and_after_training(cli, tasks, submit, tmp_path):
    before = submit({"a": attempts([[0]]), "b": attempts([[0]]), "c": attempts([[0]])}).rename(tmp_path / "before.json")
    submission = submit({"a": attempts(GRID), "b": attempts([[0]])})
    words = ["score", submission, "--data", tasks, "--before", before]
    result = cli(*words, "--figures", tmp_path / "figures")
    assert result.stdout.endswith(f"2 pictures in {tmp_path / 'figures'}\n")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"a_solved.png", "b.png"}
    assert cli(*words).stderr == "--before needs --figures, the folder of the pictures\n"
    before.write_text(json.dumps({"a": attempts([[0]])}))
    result = cli(*words, "--figures", tmp_path / "figures")
    assert result.exit_code == 1 and result.stderr == f"{before}: task b: is missing\n"


def test_score_needs_answers(cli, tmp_path, submit):
    challenges, solutions = tmp_path / "challenges.json", tmp_path / "solutions.json"
    challenges.write_text(json.dumps({"a": {"train": TASK["train"], "test": [{"input": [[5]]}]}}))
    solutions.write_text(json.dumps({"a": [GRID]}))
    submission = submit({"a": attempts(GRID)})
    result = cli("score", submission, "--data", challenges)
    assert result.exit_code == 2 and "a" in result.stderr and len(result.stderr.splitlines()) == 1
    result = cli("score", submission, "--data", challenges, "--solutions", solutions)
    assert result.exit_code == 0 and "score 1.0000" in result.stdout


def test_data(cli, tmp_path):
    result = cli("data", "arcagi2/evaluation", "--folder", tmp_path)
    assert result.exit_code == 0
    assert result.stdout == f"120 tasks in {tmp_path / 'arcagi2/evaluation'}\n"
    assert len(list((tmp_path / "arcagi2/evaluation").glob("*.json"))) == 120
    result = cli("data", "arcagi3/training")
    assert result.exit_code == 2
    assert result.stderr.startswith("set = arcagi3/training: must be one of arcagi1/training, ")


def test_info(cli):
    result = cli("info")
    assert result.exit_code == 0
    for word in ("where", "pytest", "device", "torch", "arcagi1/evaluation", "02_multilora_ttt"):
        assert word in result.stdout


def test_what_a_hung_device_has_left_is_tried_once_more(cli, tmp_path, monkeypatch):
    """And not a third time."""
    given = []

    def execute(self, values, target, cell_timeout):
        given.append(values.get("steps"))
        RunFolder(tmp_path, self.name, {}).open()  # and no finish(): RunLog.leave_unfinished

    monkeypatch.setattr(Notebook, "_execute", execute)
    result = cli("run", "02", f"out_dir={tmp_path}", "steps=3")
    assert given == [3, 3] and "not all was done; once more, in another kernel" in result.stderr
