"""Test-time training: one adapter a task, K tasks at once, and the way from trained adapters to two attempts.

Names are imported on first use, so that `import arc_helpers.ttt` alone does not load torch.
"""

import importlib

_WHERE = {
    "AnswerFeatures": "cache",
    "answer_features": "cache",
    "prepare": "cache",
    "slot_losses": "cache",
    "length_groups": "grouping",
    "padding_ratio": "grouping",
    "MultiLoRAModel": "multilora",
    "per_slot_cross_entropy": "multilora",
    "MultiLoraAdamW": "optim",
    "SlotBank": "bank",
    "score_answers": "score",
    "product_of_experts": "select",
    "Training": "trainer",
    "train_multi_lora": "trainer",
    "train_slots": "trainer",
    "load_slot": "peft_io",
    "save_slot": "peft_io",
    "answers_with_lora": "search",
    "beam_with_lora": "search",
    "search_with_lora": "search",
    "Generated": "decode",
    "generate_with_lora": "decode",
    "Candidate": "select",
    "Ranked": "select",
    "two_attempts": "select",
    "vote": "select",
    "TaskResult": "result",
    "TTTSettings": "settings",
    "settings_from": "settings",
    "ResumeError": "journal",
    "solve_group": "group",
    "solve_tasks": "pipeline",
}
__all__ = list(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
