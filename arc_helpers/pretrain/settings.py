"""The settings of a pretraining run."""

from dataclasses import dataclass

OPTIMIZERS = ("muon", "normuon", "adamw")


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run. Its length is `steps`, or `seconds`, or whichever of both comes first.

    With `steps` alone a run is a function of its settings and seed: k steps and a resume equal a straight run.
    Only the fields in RESUMABLE may change when a run is resumed.
    """

    steps: int | None = 1000
    seconds: float | None = None  # training time, earlier parts of a resumed run included
    decay_fraction: float = 0.3  # the last part of the run, over which the rate falls linearly to zero
    warmup_steps: int = 50
    batch_tokens: int = 8192  # tokens a step, padding included
    micro_tokens: int | None = None  # tokens of one forward; the gradients of a step's parts are summed
    pack: bool = False  # several documents in a row of fixed length, instead of one padded document a row
    compile: bool = False  # torch.compile, where it works
    engine: bool = False  # padded rows of a GridLM through arc_helpers.engine: faster where the model is small
    workers: int = 0  # processes that draw documents ahead
    optimizer: str = "muon"  # of the blocks' matrices: one of OPTIMIZERS; "adamw" is for everything
    lr_muon: float = 0.02  # matrices of the blocks
    lr_adamw: float = 3e-3  # embedding, head and norms
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998  # of the weights that are averaged; 0 = none are
    autocast: bool = False  # bfloat16 matrix products: GPUs from capability 8.0, CPUs with AVX-512 BF16
    seed: int = 0
    log_every: int = 20  # steps between two lines of metrics
    evaluate_every: int = 200
    checkpoint_every: int = 200

    def __post_init__(self):
        if self.steps is None and self.seconds is None:
            raise ValueError("PretrainConfig: steps and seconds are both None; give the run a length")
        for name in ("steps", "seconds", "micro_tokens"):
            length = getattr(self, name)
            if length is not None and not length > 0:
                raise ValueError(f"{name} = {length}: must be > 0 or None")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer = {self.optimizer!r}: must be one of {', '.join(OPTIMIZERS)}")
        if self.engine and self.pack:
            raise ValueError("engine: it has no mask for packed documents; choose engine or pack")

    def progress(self, step: int, seconds: float) -> float:
        """How much of the run is over, 0 to 1."""
        parts = [step / self.steps if self.steps else 0.0, seconds / self.seconds if self.seconds else 0.0]
        return min(1.0, max(parts))

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """Warm-up / stable / decay as a factor of the peak learning rate; `step` counts from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = 1.0 - self.progress(step, seconds)
        return warm * (min(1.0, left / self.decay_fraction) if self.decay_fraction else 1.0)


#: the fields that may change when a run is resumed
RESUMABLE = {
    *("steps", "seconds", "decay_fraction", "log_every", "evaluate_every", "checkpoint_every"),
    *("micro_tokens", "compile", "engine", "workers"),  # these change rounding at most
}
