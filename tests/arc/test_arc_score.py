import pytest
from arc_strategies import QUICK, tasks
from hypothesis import given
from hypothesis import strategies as st

from arc_helpers.arc import Pair, SubmissionError, Task, TaskError, score_submission, wilson_interval

DEMO = (Pair([[1]], [[1]]),)
TASKS = [
    Task("one", DEMO, (Pair([[1]], [[1]]),)),
    Task("two", DEMO, (Pair([[1]], [[2]]), Pair([[1]], [[3, 3]]))),
    Task("none", DEMO, (Pair([[1]], [[4]]),)),
]


def answer(*attempts: tuple) -> list[dict]:
    return [{"attempt_1": first, "attempt_2": second} for first, second in attempts]


SUBMISSION = {
    "one": answer(([[0]], [[1]])),  # solved by the second attempt
    "two": answer(([[2]], [[0]]), ([[3]], [[3], [3]])),  # half: right colours in the wrong shape do not count
    "none": answer(([[0]], [[0]])),
}


def test_the_score_by_hand():
    score = score_submission(SUBMISSION, TASKS)
    assert score.per_task == {"one": 1.0, "two": 0.5, "none": 0.0}
    assert (score.n_tasks, score.tasks_solved, score.task_score) == (3, 1, 0.5)
    assert (score.n_outputs, score.outputs_solved, score.output_score) == (4, 2, 0.5)
    assert (score.ci_low, score.ci_high) == wilson_interval(1.5, 3)
    assert score.summary() == {
        "n_tasks": 3,
        "tasks_solved": 1,
        "task_score": 0.5,
        "n_outputs": 4,
        "outputs_solved": 2,
        "output_score": 0.5,
        "ci_low": score.ci_low,
        "ci_high": score.ci_high,
        "n_unreadable": 0,
        "n_without_solution": 0,
    }


def test_other_tasks_in_the_submission_do_not_count():
    assert score_submission(SUBMISSION, TASKS[:1]).task_score == 1.0
    assert score_submission({}, []).summary()["task_score"] == 0.0


@QUICK
@given(st.lists(tasks(), max_size=3, unique_by=lambda task: task.id), st.integers(1, 2))
def test_the_truth_scores_full_marks_by_either_attempt(known, attempt):
    known = [task for task in known if task.has_answers]
    wrong = f"attempt_{3 - attempt}"
    submission = {
        task.id: [{f"attempt_{attempt}": grid.tolist(), wrong: [[0]]} for grid in task.answers()] for task in known
    }
    score = score_submission(submission, known)
    assert score.tasks_solved == score.n_tasks == len(known) and score.outputs_solved == score.n_outputs


def test_what_cannot_be_scored():
    with pytest.raises(TaskError, match=r"^task one: test\[0\].output: is missing; scoring needs every test output$"):
        score_submission(SUBMISSION, [TASKS[0].without_answers()])
    with pytest.raises(SubmissionError, match=r"^task two: is missing$"):
        score_submission({"one": SUBMISSION["one"]}, TASKS[:2])
    with pytest.raises(SubmissionError, match=r"^task one: has 2 entries, the task has 1 test inputs$"):
        score_submission({"one": SUBMISSION["one"] * 2}, TASKS[:1])


# Newcombe (1998), Statistics in Medicine 17, table I: the score method without continuity correction.
@pytest.mark.parametrize(
    "successes, n, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@QUICK
@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_is_symmetric(drawn):
    successes, n = drawn
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n + 1e-9 and successes / n - 1e-9 <= high <= 1
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_wilson_without_trials_and_out_of_range():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"^successes: 5; allowed are 0 to n = 4$"):
        wilson_interval(5, 4)
