"""TPTT-LiZA made right: titanization with the library's code, a proven repair, the MaG schedule, and flat decoding.

Names are imported on first use, so that `import arc_helpers.liza` alone does not load torch.
"""

from arc_helpers import on_first_use

_WHERE = {
    "chunked_delta_rule": "delta",
    "delta_rule_recurrence": "delta",
    "cache_bytes": "cache",
    "LizaError": "repair",
    "check_code": "repair",
    "check_versions": "repair",
    "is_repaired": "repair",
    "liza_layers": "repair",
    "repair_model": "repair",
    "AdjustMaGWeightCallback": "schedule",
    "mag_weight": "schedule",
    "set_mag_weight": "schedule",
    "set_window": "window",
    "inner_model": "titanize",
    "lora_only": "titanize",
    "nudge_adapters": "titanize",
    "titanize_model": "titanize",
    "load_liza": "folder",
    "save_liza": "folder",
    "TpttPipeline": "pipeline",
    "held_out_documents": "text",
    "load_documents": "text",
    "make_text_model": "text_model",
    "windows": "text_model",
    "tune": "train",
    "fresh_logits": "fresh",
    "CONTROL": "arms",
    "nll_table": "arms",
    "position_bins": "arms",
    "train_arm": "arms",
    "library_trace": "schedule",
    "plot_cost": "pictures",
    "plot_mag": "pictures",
    "plot_nll": "pictures",
    "base_difference": "checks",
    "branch_ratios": "checks",
    "is_liza_on": "checks",
    "memory_reach": "checks",
    "operator_error": "checks",
    "decode_cost": "measure",
    "nll_by_position": "measure",
    "paired_interval": "measure",
}
__all__ = list(_WHERE)
__getattr__ = on_first_use(__name__, _WHERE)
