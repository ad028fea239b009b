"""Pictures of puzzles, tokens and training; every plot_* returns a Figure, every explore_* a widget.

Nothing here touches `matplotlib.pyplot`, so importing this package changes no global figure state.
"""

from arc_helpers.plot.curves import plot_curve, plot_losses
from arc_helpers.plot.grids import (
    describe_transform,
    draw_grid,
    plot_gallery,
    plot_pair,
    plot_prediction,
    plot_round_trip,
    plot_task,
    plot_transforms,
)
from arc_helpers.plot.picture import Picture
from arc_helpers.plot.points import plot_tradeoff
from arc_helpers.plot.tokens import TokenRow, TokenTable, plot_tokens, token_table
from arc_helpers.plot.widgets import (
    Explorer,
    explore_augmentations,
    explore_predictions,
    explore_tasks,
    explore_tokens,
)

__all__ = [
    "Explorer",
    "Picture",
    "TokenRow",
    "TokenTable",
    "describe_transform",
    "draw_grid",
    "explore_augmentations",
    "explore_predictions",
    "explore_tasks",
    "explore_tokens",
    "plot_curve",
    "plot_gallery",
    "plot_losses",
    "plot_pair",
    "plot_prediction",
    "plot_round_trip",
    "plot_task",
    "plot_tokens",
    "plot_tradeoff",
    "plot_transforms",
    "token_table",
]
