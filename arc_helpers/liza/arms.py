"""The arms of the comparison: LoRA alone, and with LiZA; same adapters, same documents, same order."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from arc_helpers.liza.measure import nll_by_position
from arc_helpers.liza.repair import liza_layers
from arc_helpers.liza.schedule import AdjustMaGWeightCallback, mag_weight, set_mag_weight
from arc_helpers.liza.titanize import lora_only, titanize_model
from arc_helpers.liza.train import Tuned, tune
from arc_helpers.liza.window import set_window

CONTROL = "LoRA only"


def train_arm(
    arm: str,
    model_dir: str | Path,
    tokenizer,
    documents: Sequence[str],
    out_dir: str | Path,
    *,
    seed: int,
    r: int = 8,
    lora_alpha: int = 16,
    quantization: str = "none",
    mag_final: float = 0.5,
    transition_step: int = 100,
    base_scale_attn: bool = False,
    learned_gate: bool = False,
    **training,
) -> tuple[nn.Module, Tuned]:
    """Train one arm: CONTROL, or an operator mode by name. training: as in `tune`. Returns (model, what it left).

    base_scale_attn, learned_gate: as in `titanize_model`; a learned gate is not scheduled, its ceiling is mag_final.
    """
    options: dict[str, Any] = {"r": r, "lora_alpha": lora_alpha, "quantization": quantization, "seed": seed}
    if arm == CONTROL:
        model, schedule = lora_only(model_dir, **options), None
    else:
        options |= {"base_scale_attn": base_scale_attn, "learned_gate": learned_gate}
        model = titanize_model(model_dir, operator_mode=arm, mag_weight=mag_final, **options)
        schedule = None
        if not learned_gate:
            schedule = AdjustMaGWeightCallback(model, final_weight=mag_final, transition_step=transition_step)
    return model, tune(model, tokenizer, list(documents), out_dir, schedule=schedule, seed=seed, **training)


def position_bins(trained: int, length: int) -> dict[str, slice]:
    """Names and places of what is compared: the trained length, and each doubling beyond it up to `length` tokens."""
    edges = [0, trained]
    while edges[-1] * 2 < length:
        edges.append(edges[-1] * 2)
    edges = edges if edges[-1] >= length else [*edges, length]
    return {f"{a}–{b}": slice(a, b) for a, b in pairwise(edges)}


def nll_table(
    model: nn.Module, rows: Tensor, window: int | None, sinks: int, weights: Sequence[float] = ()
) -> dict[str, np.ndarray]:
    """Nats a token [n, L − 1] on rows [n, L], by setting: "full" as the model is, "window", "MaG 0.25" and so on.

    window: None leaves windowed attention out. weights: MaG weights to try, where there is LiZA. The model is left as
    it was, with full attention.
    """
    found = {"full": nll_by_position(model, rows)}
    if window:
        set_window(model, window, sinks)
        found["window"] = nll_by_position(model, rows)
        set_window(model, None)
    if any(liza_layers(model)):
        own = mag_weight(model)
        for weight in weights:
            set_mag_weight(model, weight)
            found[f"MaG {weight:g}"] = nll_by_position(model, rows)
        set_mag_weight(model, own)
    return found
