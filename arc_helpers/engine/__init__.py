"""A GridLM as a function of its weights: merged, fused, compiled; for small models, which are bound by dispatch."""

from arc_helpers.engine.engine import TOKENS_AT_ONCE, WORTH_COMPILING, Engine
from arc_helpers.engine.weights import Layer, Weights, shared_weights

__all__ = ["TOKENS_AT_ONCE", "WORTH_COMPILING", "Engine", "Layer", "Weights", "shared_weights"]
