"""The score's denominator is what the benchmark has: neither unreadable tasks nor missing solutions make it smaller."""

import json

import pytest

from arc_helpers.arc import TaskError, load_benchmark, score_benchmark

PAIR = {"input": [[1]], "output": [[2]]}
TASK = {"train": [PAIR], "test": [{"input": [[3]]}]}
PERFECT = [{"attempt_1": [[2]], "attempt_2": [[0]]}]


@pytest.fixture
def benchmark(tmp_path):
    """The benchmark of four tasks, of which one cannot be read, under these solutions."""

    def benchmark(solutions, tasks=None, **options):
        tasks = tasks or {"a": TASK, "b": TASK, "c": TASK, "bad": {"train": [], "test": [{}, {}]}}
        (tmp_path / "challenges.json").write_text(json.dumps(tasks))
        (tmp_path / "solutions.json").write_text(json.dumps(solutions))
        return load_benchmark(tmp_path / "challenges.json", solutions=tmp_path / "solutions.json", **options)

    return benchmark


@pytest.mark.parametrize("flaw", [None, {"output": [[2]]}, [[[2]], [[2]]], [[2]], [[[99]]]])
def test_every_task_counts(benchmark, flaw):
    solutions = {"a": [[[2]]], "b": [[[2]]]} | ({} if flaw is None else {"c": flaw})
    found = benchmark(solutions)
    assert found.num_tests == {"a": 1, "b": 1, "bad": 2, "c": 1}
    score = score_benchmark({name: PERFECT for name in ("a", "b", "c")}, found)
    assert (score.n_tasks, score.tasks_solved, score.task_score) == (4, 2, 0.5)
    assert (score.n_outputs, score.output_score) == (5, 0.4) and score.per_task["c"] == score.per_task["bad"] == 0
    assert score.caveat == ", 1 unreadable, 1 without solution"
    assert (score.summary()["n_unreadable"], score.summary()["n_without_solution"]) == (1, 1)
    assert "task c: solutions: " in found.without_solution[0].message or "solutions[0]" in str(found.without_solution)


def test_no_solutions_no_score(benchmark):
    with pytest.raises(TaskError, match=r"^not scored: none of 4 tasks has a solution$"):
        score_benchmark({}, benchmark({}))


def test_only_what_was_asked(benchmark):
    found = benchmark({"a": [[[2]]]}, ids=["a"])
    score = score_benchmark({"a": PERFECT}, found)
    assert (score.n_tasks, score.task_score, score.caveat) == (1, 1.0, "")
    with pytest.raises(TaskError, match="nowhere not among its 3 tasks"):
        benchmark({}, ids=["a", "nowhere"])


def test_answers_in_the_data_themselves(tmp_path):
    labelled = {"train": [PAIR], "test": [PAIR]}
    (tmp_path / "tasks.json").write_text(json.dumps({"a": labelled, "b": TASK}))
    score = score_benchmark({"a": PERFECT, "b": PERFECT}, load_benchmark(tmp_path / "tasks.json"))
    assert (score.n_tasks, score.tasks_solved, score.caveat) == (2, 1, ", 1 without solution")
