"""A curriculum over context: small grids and short documents first, larger ones as the run goes on."""

from dataclasses import dataclass

from arc_helpers.pretrain.mixture import Mixture

Size = tuple[int, int]  # max_side in cells, max_len in tokens


@dataclass(frozen=True)
class Curriculum:
    """Mixtures, each with the share of the run (0 to 1, rising, at last 1) up to which it is drawn from."""

    stages: tuple[tuple[float, Mixture], ...]

    @classmethod
    def of(cls, source: "Mixture | Curriculum") -> "Curriculum":
        """One mixture from start to end; a curriculum as it is."""
        return source if isinstance(source, Curriculum) else cls(((1.0, source),))

    def stage(self, progress: float) -> int:
        """The number of the stage that a run is in when the share `progress` of it is over."""
        return next((i for i, (until, _) in enumerate(self.stages) if progress < until), len(self.stages) - 1)

    @property
    def longest(self) -> int:
        """The longest document of any stage, in tokens."""
        return max(mixture.max_len for _, mixture in self.stages)

    @property
    def settings(self) -> dict[str, object]:
        """What decides which documents come when, flat: a resumed run compares it by name."""
        flat: dict[str, object] = {"curriculum": [[until, m.max_side, m.max_len] for until, m in self.stages]}
        for _, mixture in self.stages:
            flat |= {k: v for k, v in mixture.settings.items() if k not in ("max_side", "max_len")}
        return flat


def parse_curriculum(text: str | None, last: Size) -> list[tuple[float, Size]]:
    """Stages out of "0.6:12:1024, 0.9:20:2048": up to 60 % of the run sides ≤ 12 and documents ≤ 1024 tokens, up to
    90 % 20 and 2048; then `last`. None or empty: `last` from the start. ValueError, one line, on anything else.
    """
    stages: list[tuple[float, Size]] = []
    for word in filter(None, (w.strip() for w in (text or "").split(","))):
        try:
            until, side, length = (kind(part) for kind, part in zip((float, int, int), word.split(":"), strict=True))
        except ValueError:
            raise ValueError(f"curriculum: {word!r}; expected share:max_side:max_len, such as 0.6:12:1024") from None
        before = stages[-1][0] if stages else 0.0
        if not before < until < 1:
            raise ValueError(f"curriculum: {word!r}; shares must rise between 0 and 1")
        if not (1 <= side <= last[0] and 16 <= length <= last[1]):
            raise ValueError(f"curriculum: {word!r}; a stage may be at most {last[0]} cells and {last[1]} tokens")
        stages.append((until, (side, length)))
    return [*stages, (1.0, last)]
