"""Pictures of puzzles, tokens and training; every plot_* returns a Figure, every explore_* a widget.

Nothing here touches `matplotlib.pyplot`, so importing this package changes no global figure state.
"""

from arc_helpers.plot.candidates import plot_candidates
from arc_helpers.plot.curves import plot_curve, plot_losses
from arc_helpers.plot.explorers import (
    explore_augmentations,
    explore_candidates,
    explore_segments,
    explore_tokens,
)
from arc_helpers.plot.grids import (
    describe_transform,
    draw_grid,
    plot_before_after,
    plot_gallery,
    plot_pair,
    plot_prediction,
    plot_round_trip,
    plot_task,
    plot_transforms,
)
from arc_helpers.plot.learning import Shot, plot_learning
from arc_helpers.plot.monitor import TrainingMonitor, plot_monitor
from arc_helpers.plot.picture import Picture
from arc_helpers.plot.points import plot_tradeoff
from arc_helpers.plot.probabilities import plot_probabilities
from arc_helpers.plot.tokens import TokenRow, TokenTable, plot_tokens, token_table
from arc_helpers.plot.widgets import Explorer, explore, explore_pictures

__all__ = [
    "Explorer",
    "Picture",
    "Shot",
    "TokenRow",
    "TokenTable",
    "TrainingMonitor",
    "describe_transform",
    "draw_grid",
    "explore",
    "explore_augmentations",
    "explore_candidates",
    "explore_pictures",
    "explore_segments",
    "explore_tokens",
    "plot_before_after",
    "plot_candidates",
    "plot_curve",
    "plot_gallery",
    "plot_learning",
    "plot_losses",
    "plot_monitor",
    "plot_pair",
    "plot_prediction",
    "plot_probabilities",
    "plot_round_trip",
    "plot_task",
    "plot_tokens",
    "plot_tradeoff",
    "plot_transforms",
    "token_table",
]
