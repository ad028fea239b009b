"""Procedural ARC tasks: rule families, their two-rule compositions and a quick generator."""

from arc_helpers.lm.procedural import (  # noqa: F401  (importing a module enters its rules)
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
from arc_helpers.lm.procedural.generate import draw_pairs, gallery, generate_pairs, generate_task
from arc_helpers.lm.procedural.registry import RULES, Rule, rule
from arc_helpers.lm.procedural.world import Misfit, World

__all__ = [
    "RULES",
    "Misfit",
    "Rule",
    "World",
    "draw_pairs",
    "gallery",
    "generate_pairs",
    "generate_task",
    "rule",
]
