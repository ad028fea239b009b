"""The one place that says how nearly numbers must agree."""

import pytest
import torch

from arc_helpers.runs import tolerance


def test_the_tolerance_of_a_number_format():
    assert tolerance(torch.float32) == tolerance("float32") == 1e-4
    named = [tolerance(name) for name in ("float64", "float32", "float16", "bfloat16")]
    assert named == sorted(named)
    for name in ("float16", "bfloat16", "float32"):  # room for some roundings of a number of the order of ten, not more
        assert 5 < tolerance(name) / (10 * torch.finfo(getattr(torch, name)).eps) < 100
    with pytest.raises(ValueError, match=r"^dtype = int8: must be one of float64, float32, float16, bfloat16$"):
        tolerance(torch.int8)
