"""Test-time training: one adapter a task, K tasks at once, and the way from trained adapters to two attempts.

Names are imported on first use, so that `import arc_helpers.ttt` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "AnswerFeatures": "cache",
    "answer_features": "cache",
    "prepare": "cache",
    "slot_losses": "cache",
    "StateStore": "store",
    "DepthScore": "depths",
    "depths_of": "depths",
    "score_depth": "depths",
    "with_held_out_demonstration": "depths",
    "FORMS": "pools",
    "adapt_jointly": "joint",
    "joint_config": "joint",
    "group_tasks": "grouping",
    "length_groups": "grouping",
    "training_length": "grouping",
    "padding_ratio": "grouping",
    "MultiLoRAModel": "multilora",
    "per_slot_cross_entropy": "multilora",
    "MultiLoraAdamW": "optim",
    "SlotBank": "bank",
    "answer_logprobs": "score",
    "score_answers": "score",
    "product_of_experts": "select",
    "task_features": "features",
    "Job": "trainer",
    "MultiLoraTrainer": "trainer",
    "Trained": "trainer",
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
    "WorkersError": "workers",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)
