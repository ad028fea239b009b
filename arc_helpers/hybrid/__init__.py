"""A language model and a TRM joined by thin adapters: what is read conditions what is thought, and the other way round.

Layer 4, notebook 04. Names are imported on first use, so that `import arc_helpers.hybrid` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "ARMS": "ablation",
    "bootstrap": "ablation",
    "build_arm": "ablation",
    "is_right": "ablation",
    "solved": "ablation",
    "trm_shape": "ablation",
    "LatentToTextAdapter": "adapters",
    "TextToLatentAdapter": "adapters",
    "naive_parameters": "adapters",
    "random_twin": "backbone",
    "check_gradients": "checks",
    "finite_difference_error": "checks",
    "gradient_report": "checks",
    "in_float64": "checks",
    "weights_hash": "checks",
    "Attempt": "feedback",
    "encode_problem": "feedback",
    "format_problem_text": "feedback",
    "grid_to_feedback": "feedback",
    "tokens_to_grid": "feedback",
    "HybridConfig": "model",
    "HybridError": "model",
    "HybridModel": "model",
    "Example": "questions",
    "Question": "questions",
    "has_words": "feedback",
    "as_batch": "questions",
    "examples_of": "questions",
    "labels_of": "questions",
    "leave_one_out": "questions",
    "questions_of": "questions",
    "RuleSets": "rules",
    "draw_rule_sets": "rules",
    "load_hybrid": "saved",
    "load_pretrained": "saved",
    "save_hybrid": "saved",
    "Answer": "attempts",
    "check_demonstrations": "attempts",
    "ranked": "attempts",
    "solve": "attempts",
    "StateBank": "states",
    "States": "states",
    "read": "states",
    "JointConfig": "train",
    "JointTrainer": "train",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)
