"""Puzzles: grids, tasks, where they come from, how they are augmented, submitted and scored. numpy only."""

from arc_helpers.arc.augment import (
    DIHEDRAL,
    Transform,
    choose_views,
    color_permutation,
    flip_grid,
    permute_colors,
    rotate_grid,
)
from arc_helpers.arc.benchmark import Benchmark, load_benchmark, score_benchmark
from arc_helpers.arc.convert import concept_arc, re_arc
from arc_helpers.arc.grid import (
    ARC_COLORS,
    ARCPRIZE_COLORS,
    MAX_SIDE,
    GridDiff,
    GridError,
    as_grid,
    compare_grids,
    grid_to_string,
    string_to_grid,
)
from arc_helpers.arc.guard import SplitError, check_split, find_overlap
from arc_helpers.arc.pseudo import PseudoTask, build_pseudo_tasks
from arc_helpers.arc.score import Score, score_submission, wilson_interval, write_scored_texts, wrong_share
from arc_helpers.arc.sources import KNOWN_SETS, TaskFault, choose_tasks, load_tasks, write_tasks
from arc_helpers.arc.submission import (
    FALLBACK,
    SubmissionError,
    SubmissionWriter,
    merge_submissions,
    num_tests_of,
    read_submission,
    validate_submission,
    write_ranked,
)
from arc_helpers.arc.task import Pair, Task, TaskError, safe_name
from arc_helpers.arc.votes import most_voted, same_grids

__all__ = [
    "Benchmark",
    "load_benchmark",
    "score_benchmark",
    "ARC_COLORS",
    "ARCPRIZE_COLORS",
    "DIHEDRAL",
    "FALLBACK",
    "GridDiff",
    "GridError",
    "KNOWN_SETS",
    "MAX_SIDE",
    "Pair",
    "PseudoTask",
    "Score",
    "SplitError",
    "SubmissionError",
    "SubmissionWriter",
    "Task",
    "TaskError",
    "TaskFault",
    "Transform",
    "as_grid",
    "build_pseudo_tasks",
    "check_split",
    "choose_tasks",
    "choose_views",
    "color_permutation",
    "compare_grids",
    "concept_arc",
    "find_overlap",
    "flip_grid",
    "grid_to_string",
    "load_tasks",
    "merge_submissions",
    "most_voted",
    "num_tests_of",
    "permute_colors",
    "re_arc",
    "read_submission",
    "rotate_grid",
    "safe_name",
    "same_grids",
    "score_submission",
    "string_to_grid",
    "validate_submission",
    "wilson_interval",
    "write_scored_texts",
    "write_ranked",
    "write_tasks",
    "wrong_share",
]
