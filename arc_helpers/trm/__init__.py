"""The Tiny Recursive Model on grids: data, model, training, evaluation. Layer 3, notebook 03.

Names are imported on first use, so that `import arc_helpers.trm` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "Batch": "batch",
    "LAYOUTS": "canvas",
    "Canvas": "canvas",
    "CanvasError": "canvas",
    "choose_canvas": "canvas",
    "place": "canvas",
    "read": "canvas",
    "ArcDataset": "data",
    "DatasetError": "data",
    "DatasetOptions": "data",
    "Query": "data",
    "build_arc_dataset": "data",
    "load_arc_dataset": "data",
    "PassAtK": "evaluate",
    "Voted": "evaluate",
    "score_segments": "evaluate",
    "score_votes": "evaluate",
    "vote": "evaluate",
    "write_votes": "evaluate",
    "segment_loss": "loss",
    "TRM": "model",
    "Carry": "model",
    "TRMConfig": "model",
    "count_parameters": "model",
    "segment_flops": "model",
    "Prediction": "prediction",
    "load_predictions": "prediction",
    "predict": "prediction",
    "run_segments": "prediction",
    "save_predictions": "prediction",
    "solved_after_segments": "prediction",
    "SavedModelError": "saved",
    "load_trm": "saved",
    "rename_official": "saved",
    "save_trm": "saved",
    "ArcSource": "source",
    "SudokuSource": "sudoku",
    "as_batch": "sudoku",
    "make_sudoku": "sudoku",
    "CheckpointError": "train",
    "TrainConfig": "train",
    "Trainer": "train",
    "bfloat16_is_real": "train",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)
