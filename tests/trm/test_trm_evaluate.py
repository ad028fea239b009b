"""Votes, pass@k and the recursion curve against sums done by hand."""

import numpy as np
import pytest
from trm_models import EVALUATION

from arc_helpers.arc import Pair, SubmissionWriter, Task, TaskError, num_tests_of, score_submission, wilson_interval
from arc_helpers.trm.evaluate import score_segments, score_votes, vote, write_votes
from arc_helpers.trm.prediction import Prediction

RIGHT = EVALUATION[0].test[0].output


def said(grid, q=0.5, view="v", segment=1, task_id="asked1", index=0, checkpoint=""):
    grid = None if grid is None else np.array(grid, dtype=np.int8)
    return Prediction(task_id, index, view, segment, grid, q, checkpoint)


def test_the_count_decides_and_confidence_breaks_ties():
    votes = vote([said([[1]], 0.9), said([[2]], 0.1), said([[2]], 0.3), said([[3]], 0.4), said([[3]], 0.4), said(None)])
    ranked = votes["asked1", 0]
    assert [(int(v.grid[0, 0]), v.votes) for v in ranked] == [(3, 2), (2, 2), (1, 1)]
    assert [v.q for v in ranked] == pytest.approx([0.4, 0.2, 0.9])
    assert vote([said(None)]) == {("asked1", 0): []}


def test_one_segment_counts():
    predictions = [said([[1]], segment=1), said([[1]], segment=1), said([[2]], segment=2)]
    assert [v.votes for v in vote(predictions)["asked1", 0]] == [1], "the last one, if not told otherwise"
    assert [v.votes for v in vote(predictions, segment=1)["asked1", 0]] == [2]


def test_checkpoints_are_not_pooled_in_silence():
    """The published evaluator keeps the votes of all earlier checkpoints of a run."""
    predictions = [said([[1]], checkpoint="step_1"), said([[1]], checkpoint="step_2")]
    with pytest.raises(ValueError, match="predictions of 2 checkpoints \\(step_1, step_2\\); pool=True if meant"):
        vote(predictions)
    assert vote(predictions, pool=True)["asked1", 0][0].votes == 2


def test_pass_at_k_by_hand():
    two = Task("two", EVALUATION[0].train, (Pair([[1]], [[5]]), Pair([[2]], [[6]])))
    predictions = [said([[5]], task_id="two"), said([[7]], task_id="two", index=1)]
    predictions += [said([[6]], q=0.1, task_id="two", index=1)]
    predictions += [said([[0]], view=str(i)) for i in range(2)] + [said(RIGHT)]
    first, second, many = score_votes(vote(predictions), [two, *EVALUATION], (1, 2, 10))
    assert (first.k, first.n_tasks, first.n_outputs) == (1, 3, 4)
    assert (first.tasks_solved, first.outputs_solved) == (0.5, 1), "half of `two`, nothing of the others"
    assert (second.tasks_solved, second.outputs_solved) == (2.0, 3)
    assert second.task_score == pytest.approx(2 / 3) and (second.ci_low, second.ci_high) == wilson_interval(2.0, 3)
    assert many.outputs_solved == 3, "asked2 was never answered"


def test_the_submission_scores_as_pass_at_2(tmp_path):
    tasks = [task.without_answers() for task in EVALUATION]
    writer = SubmissionWriter(tmp_path / "submission.json", num_tests_of(tasks))
    votes = vote([said([[0]]), said([[0]]), said(RIGHT)])
    assert write_votes(writer, votes, tasks) == 1
    entry = writer.read()
    assert entry["asked1"] == [{"attempt_1": [[0]], "attempt_2": RIGHT.tolist()}]
    assert entry["asked2"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}], "the fallback"
    score = score_submission(writer.path, EVALUATION)
    assert score.tasks_solved == 1 == score_votes(votes, EVALUATION, (2,))[0].outputs_solved


def test_the_recursion_curve():
    predictions = [said([[0]], segment=1), said(RIGHT, segment=2), said(RIGHT, segment=2), said(None, segment=2)]
    predictions.append(said([[9]], segment=2, task_id="not scored"))
    assert score_segments(predictions, EVALUATION) == pytest.approx({1: 0.0, 2: 2 / 3})


def test_scoring_needs_answers():
    with pytest.raises(TaskError, match="scoring needs every test output"):
        score_votes({}, [EVALUATION[0].without_answers()])
