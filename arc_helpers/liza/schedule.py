"""The Memory-as-Gate (MaG) weight during training: how much of each attention's output is LiZA's."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import TrainerCallback, TrainerState

from arc_helpers.liza.repair import LizaError, liza_layers

MODES = ("gradual", "constant", "cyclic", "switch")


def mag_weight(model: nn.Module) -> float:
    """The weight that every layer of the model uses now. Raises LizaError where layers disagree, or there is none."""
    weights = {float(layer.memory_gate.mag_weight) for layer in liza_layers(model)}
    if len(weights) != 1:
        raise LizaError(f"mag_weight: the layers hold {sorted(weights) or 'none'}")
    return weights.pop()


def set_mag_weight(model: nn.Module, weight: float) -> None:
    """Let the output be (1 − weight)·softmax + weight·LiZA in every layer, and in what is saved from now on."""
    if not 0 <= weight <= 1:
        raise LizaError(f"mag_weight = {weight}: must be between 0 and 1")
    for layer in liza_layers(model):
        layer.memory_gate.mag_weight = torch.tensor(weight, dtype=torch.float64)
    model.config.mag_weight = weight


class AdjustMaGWeightCallback(TrainerCallback):
    """Sets the MaG weight before each optimizer step, from step 1 on; `trace` holds (step, requested, used).

    gradual: from initial_weight at step 1 in a straight line to final_weight at transition_step, and on.
    constant: final_weight. cyclic: the entries of weight_list in turn. switch: 0 for switch_period steps, then
    final_weight for as many, and so on.

    It depends on the number of the step alone, so a resumed training goes on exactly. Where the Trainer ends with its
    best model, the weight of that model's step comes back with it.
    """

    def __init__(
        self,
        model: nn.Module,
        initial_weight: float = 0.01,
        final_weight: float = 0.5,
        transition_step: int = 100,
        mode: str = "gradual",
        weight_list: Sequence[float] | None = None,
        switch_period: int = 1,
    ):
        # The original script's lines end in a comma, which makes tuples of one.
        initial_weight, final_weight, transition_step = map(_plain, (initial_weight, final_weight, transition_step))
        if mode not in MODES:
            raise LizaError(f"mode = {mode!r}: must be one of {', '.join(MODES)}")
        if transition_step < 1 or switch_period < 1:
            raise LizaError(f"transition_step = {transition_step}, switch_period = {switch_period}: must be >= 1")
        cycle = [initial_weight, final_weight] if weight_list is None else [_plain(w) for w in weight_list]
        if not cycle or not all(0 <= w <= 1 for w in (initial_weight, final_weight, *cycle)):
            raise LizaError(f"weights {[initial_weight, final_weight, *cycle]}: must be between 0 and 1")

        def gradual(step: int) -> float:
            share = min(1.0, (step - 1) / (transition_step - 1)) if transition_step > 1 else 1.0
            return final_weight if share == 1 else initial_weight + (final_weight - initial_weight) * share

        of_mode: dict[str, Callable[[int], float]] = {
            "gradual": gradual,
            "constant": lambda step: final_weight,
            "cyclic": lambda step: cycle[(step - 1) % len(cycle)],
            "switch": lambda step: final_weight * ((step - 1) // switch_period % 2),
        }
        self.model, self.requested = model, of_mode[mode]
        self.trace: list[tuple[int, float, float]] = []

    def on_train_begin(self, args, state, control, **kwargs):
        """What is evaluated before the first step has the first step's weight."""
        set_mag_weight(self.model, self.requested(state.global_step + 1))

    def on_step_begin(self, args, state, control, **kwargs):
        """state.global_step counts finished steps."""
        step = state.global_step + 1
        set_mag_weight(self.model, self.requested(step))
        self.trace.append((step, self.requested(step), mag_weight(self.model)))

    def on_log(self, args, state, control, logs=None, **kwargs):
        """The Trainer has filed its record before it asks: add to both."""
        for record in (logs, state.log_history[-1] if state.log_history else None):
            if record is not None:
                record["mag_weight"] = mag_weight(self.model)

    def on_train_end(self, args, state, control, **kwargs):
        """The best model comes back by its adapter's weights alone: give it its own MaG."""
        best = getattr(state, "best_global_step", None)
        if args.load_best_model_at_end and best:
            set_mag_weight(self.model, self.requested(best))


def library_trace(steps: int, config_weight: float = 0.5, **options) -> list[float]:
    """The weight that tptt's own LiZACallback(**options) lets each of `steps` steps use, the first being step 1.

    It acts after a step only, so step 1 has the config's weight and every later one that of the step before.
    """
    from tptt import LiZACallback
    from tptt.modeling_tptt import MemoryAsGate

    layer = nn.Module()
    layer.memory_gate = MemoryAsGate(mag_ratio=config_weight)
    callback, used = LiZACallback(nn.ModuleList([layer]), **options), []
    for step in range(1, steps + 1):
        used.append(float(layer.memory_gate.mag_weight))
        callback.on_step_end(None, TrainerState(global_step=step), None)
    return used


def _plain(value):
    return value[0] if isinstance(value, tuple | list) else value
