"""Procedural ARC tasks: rule families, their two-rule compositions and a quick generator."""

from arc_helpers.rules import (  # noqa: F401  (importing a module enters its rules)
    colors,
    counting,
    crops,
    geometry,
    lines,
    motion,
    objects,
    panels,
    paths,
    patterns,
    scaling,
    stamps,
    traits,
    walls,
)
from arc_helpers.rules.generate import draw_pairs, gallery, generate_pairs
from arc_helpers.rules.registry import RULES, Rule, rule
from arc_helpers.rules.world import Misfit, World

__all__ = [
    "RULES",
    "Misfit",
    "Rule",
    "World",
    "draw_pairs",
    "gallery",
    "generate_pairs",
    "rule",
]
