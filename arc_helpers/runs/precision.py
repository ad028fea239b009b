"""How nearly two ways to compute the same number must agree, by number format: the one place that says so."""

from typing import Any

#: largest difference of logits, losses and log-probabilities (numbers of the order of ten) between two orders of the
#: same sums, with room for a few layers; measured on tiny models: 1e-6, 0.008 and 0.06 from float32 down
TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "float16": 0.05, "bfloat16": 0.4}


def tolerance(dtype: Any) -> float:
    """The absolute tolerance of a comparison in a torch dtype, or its name. Raises ValueError for any other."""
    name = str(dtype).removeprefix("torch.")
    if name not in TOLERANCES:
        raise ValueError(f"dtype = {name}: must be one of {', '.join(TOLERANCES)}")
    return TOLERANCES[name]
