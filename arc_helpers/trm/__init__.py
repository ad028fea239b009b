"""The Tiny Recursive Model on grids: data, model, training, evaluation. Layer 3, notebook 03."""

from arc_helpers.trm.batch import Batch
from arc_helpers.trm.canvas import LAYOUTS, Canvas, CanvasError, choose_canvas, place, read
from arc_helpers.trm.data import (
    ArcDataset,
    DatasetError,
    DatasetOptions,
    Query,
    build_arc_dataset,
    load_arc_dataset,
)
from arc_helpers.trm.evaluate import PassAtK, Voted, score_segments, score_votes, vote, write_votes
from arc_helpers.trm.loss import segment_loss
from arc_helpers.trm.model import TRM, Carry, TRMConfig, count_parameters, segment_flops
from arc_helpers.trm.predict import (
    Prediction,
    load_predictions,
    predict,
    run_segments,
    save_predictions,
    solved_after_segments,
)
from arc_helpers.trm.saved import SavedModelError, load_trm, rename_official, save_trm
from arc_helpers.trm.source import ArcSource
from arc_helpers.trm.sudoku import SudokuSource, as_batch, make_sudoku
from arc_helpers.trm.tracking import open_tracker
from arc_helpers.trm.train import CheckpointError, TrainConfig, Trainer, bfloat16_is_real

__all__ = [
    "LAYOUTS",
    "TRM",
    "ArcDataset",
    "ArcSource",
    "Batch",
    "Canvas",
    "CanvasError",
    "Carry",
    "CheckpointError",
    "DatasetError",
    "DatasetOptions",
    "PassAtK",
    "Prediction",
    "Query",
    "SavedModelError",
    "SudokuSource",
    "TRMConfig",
    "TrainConfig",
    "Trainer",
    "Voted",
    "as_batch",
    "bfloat16_is_real",
    "build_arc_dataset",
    "choose_canvas",
    "count_parameters",
    "load_arc_dataset",
    "load_predictions",
    "load_trm",
    "make_sudoku",
    "open_tracker",
    "place",
    "predict",
    "read",
    "rename_official",
    "run_segments",
    "save_predictions",
    "save_trm",
    "score_segments",
    "score_votes",
    "segment_flops",
    "segment_loss",
    "solved_after_segments",
    "vote",
    "write_votes",
]
