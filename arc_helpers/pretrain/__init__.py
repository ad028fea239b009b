"""Pretraining of a base model on grids: corpus, curriculum, packing, optimiser, trainer, model card.

Names are imported on first use, so that `import arc_helpers.pretrain` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "TRAINING": "base_run",
    "card_of": "base_run",
    "model_from": "base_run",
    "save_trained": "base_run",
    "corpus_from": "base_run",
    "settings_from": "base_run",
    "build_curriculum": "corpus",
    "build_mixture": "corpus",
    "held_out_tasks": "corpus",
    "model_card": "export",
    "save_model": "export",
    "PretrainConfig": "settings",
    "Pretrainer": "trainer",
    "held_out_score": "held_out",
    "held_out_losses": "held_out",
    "AdapterSettings": "finetune",
    "FineTuned": "finetune",
    "merge_adapter": "finetune",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)
