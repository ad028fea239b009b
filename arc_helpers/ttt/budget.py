"""How long groups of tasks take, and the best settings that fit into the time: one arithmetic for a plan made before a
run (`arc_helpers.kaggle.planner`) and for a run that plans again before every group."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arc_helpers.arc import Task
from arc_helpers.lm.prompt_form import PromptForm
from arc_helpers.runs import Deadline
from arc_helpers.ttt.grouping import training_length
from arc_helpers.ttt.settings import TTTSettings

#: seconds of a depth-first search by its bound, over those at 0.35: 492, 309, 259 and 235 s for the longest task of
#: ironbar's ARC-25 runs at 0.10, 0.17, 0.25 and 0.35
SEARCH = {0.10: 492 / 235, 0.17: 309 / 235, 0.25: 259 / 235, 0.35: 1.0}
FEWEST_STEPS = 4  # below that, an adapter has learned nothing
RECENT = 3  # groups whose measured seconds correct the forecast


@dataclass(frozen=True)
class Size:
    """What a task's cost depends on, in tokens: its longest sequence, and the answer to each test input."""

    tokens: int
    answers: tuple[int, ...]


@dataclass(frozen=True)
class Costs:
    """Seconds on one device for one base: a training step of a group and each token in it, each token of a prompt, a
    step of writing and each token written. The steps count where the model is small, the tokens where it is large."""

    train_step: float
    train_token: float
    read_token: float
    write_step: float
    write_token: float

    def scaled(self, factor: float) -> "Costs":
        """All of them times a factor."""
        return Costs(*(factor * cost for cost in dataclasses.astuple(self)))


#: in arbitrary units, for a run that knows no better yet: training reads a token forwards and backwards; what is
#: written goes through the model a token at a time
UNITS = Costs(train_step=30.0, train_token=3.0, read_token=1.0, write_step=15.0, write_token=2.0)


def size_of(task: Task, prompt_form: PromptForm, max_len: int, form: str = "in_context") -> Size:
    """The size of a task; answers are taken to be as large as its demonstrations let expect. form: as in
    `grouping.training_length`."""
    same = all(pair.input.shape == pair.output.shape for pair in task.train)
    usual = max((prompt_form.output_length(pair.output.shape) for pair in task.train), default=0)
    answers = [prompt_form.output_length(t.input.shape) if same else usual for t in task.test]
    return Size(training_length(task, prompt_form, max_len, form), tuple(answers))


def work(group: Sequence[Size], settings: TTTSettings) -> np.ndarray:
    """What a group asks for, in the order of `Costs`: float64 [5]."""
    longest, tests = max(size.tokens for size in group), sum(len(size.answers) for size in group)
    search = 1.0
    if settings.strategy == "dfs":
        search = float(np.interp(settings.min_prob, list(SEARCH), list(SEARCH.values())))
    return np.array(
        [
            settings.steps,
            settings.steps * len(group) * longest,
            settings.views * tests * longest,
            search * max(max(size.answers) for size in group),
            search * settings.views * sum(sum(size.answers) for size in group),
        ],
        dtype=np.float64,
    )


def training_share(group: Sequence[Size], settings: TTTSettings, costs: Costs = UNITS) -> float:
    """How much of a group's time its training may take; a tenth at least is for its answers."""
    parts = work(group, settings) * np.array(dataclasses.astuple(costs))
    return min(0.9, float(parts[:2].sum() / parts.sum()))


def forecast(groups: Iterable[Sequence[Size]], settings: TTTSettings, costs: Costs) -> float:
    """Seconds that groups take on one device, one after another."""
    return sum(float(work(group, settings) @ np.array(dataclasses.astuple(costs))) for group in groups)


def fit_costs(works: Sequence[np.ndarray], seconds: Sequence[float], prior: Costs = UNITS) -> Costs:
    """The costs that explain measured seconds best, none of them negative: least squares on relative errors, drawn to
    the ratios of `prior` where the measurements do not tell its parts apart. works: [5] each. Raises ValueError
    without measurements."""
    if not len(works):
        raise ValueError("fit_costs: nothing was measured")
    rows, target = np.stack(works), np.asarray(seconds, dtype=np.float64)
    ratios = np.array(dataclasses.astuple(prior))
    unit = ratios * float(np.median(target / (rows @ ratios)))  # the prior in seconds
    features = rows * unit / target[:, None]  # each row should sum to 1 under factors of 1
    weight = 0.01
    factors, free = np.zeros(len(unit)), np.ones(len(unit), dtype=bool)
    while free.any():
        design = np.concatenate([features[:, free], weight * np.eye(free.sum())])
        wanted = np.concatenate([np.ones(len(target)), np.full(free.sum(), weight)])
        solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
        if (solution >= 0).all():
            factors[free] = solution
            break
        free[np.flatnonzero(free)[solution < 0]] = False
    return Costs(*(unit * factors).tolist())


def lesser(settings: TTTSettings) -> list[TTTSettings]:
    """The settings as asked, and what may be done instead, dearest first: a depth-first search of likelier answers
    only, then in turn half the steps and half the views."""
    ladder = [settings]
    while settings.strategy == "dfs" and settings.min_prob < max(SEARCH):
        bound = min(bound for bound in SEARCH if bound > settings.min_prob)
        settings = dataclasses.replace(settings, min_prob=bound)
        ladder.append(settings)
    halve_steps = True
    while settings.steps > FEWEST_STEPS or settings.views > 1:
        if (halve_steps and settings.steps > FEWEST_STEPS) or settings.views == 1:
            settings = dataclasses.replace(settings, steps=max(FEWEST_STEPS, settings.steps // 2))
        else:
            settings = dataclasses.replace(settings, views=max(1, settings.views // 2))
        halve_steps = not halve_steps
        ladder.append(settings)
    return ladder


def best_fit(
    groups: Sequence[Sequence[Size]], settings: TTTSettings, costs: Costs, seconds: float, devices: int = 1
) -> TTTSettings:
    """The dearest of `lesser(settings)` with which all groups are done in `seconds` on so many devices; the cheapest
    where none is."""
    ladder = lesser(settings)
    for candidate in ladder:
        each = [forecast([group], candidate, costs) for group in groups]
        # whole groups go to devices: none ends before the longest of them, nor before its share
        if max(sum(each) / devices, max(each, default=0.0)) <= seconds:
            return candidate
    return ladder[-1]


class Budget:
    """The plan of a run: whether the next group fits, and which settings it gets.

    groups: ids that train together, in their order; sizes: of each task. costs: as measured for this device and base;
    None takes `UNITS`. Either is corrected by what the last groups took.
    replan: reduce the settings of a group so that those after it get their share, too; never without a deadline.
    """

    def __init__(
        self,
        deadline: Deadline,
        groups: Sequence[Sequence[str]],
        sizes: Mapping[str, Size],
        settings: TTTSettings,
        *,
        costs: Costs | None = None,
        devices: int = 1,
        replan: bool = True,
    ):
        self.deadline, self.asked, self.devices, self.replan = deadline, settings, devices, replan
        self._waiting = {self._key(group): [sizes[task_id] for task_id in group] for group in groups}
        self._started: dict[tuple[str, ...], tuple[list[Size], TTTSettings]] = {}
        self._costs, self._known = costs or UNITS, costs is not None
        self._measured: list[tuple[float, float]] = []  # forecast and real seconds of groups that are done

    def settings_for(self, group: Sequence[Task]) -> TTTSettings:
        """The settings that a group is started with; it counts as started from now on."""
        key = self._key(task.id for task in group)
        if key in self._started:  # a group that is tried again
            return self._started[key][1]
        settings = self._plan()
        self._started[key] = self._waiting.pop(key), settings
        return settings

    def deadline_for(self, group: Sequence[Task]) -> Deadline:
        """By when a group that is started now must end: with the run. But where every group should have its share, the
        first ones, of which nobody knows how long they take, get twice theirs at most."""
        if not self.replan or self._known or not self._waiting:
            return self.deadline
        return self.deadline.fraction(min(1.0, 2 * self.devices / (len(self._waiting) + 1)))

    def fits(self, group: Sequence[Task]) -> bool:
        """Whether a group can still be done in time, with the settings that it would get."""
        if self.deadline.passed or not math.isfinite(self.deadline.left):
            return not self.deadline.passed
        key = self._key(task.id for task in group)
        sizes, settings = self._started.get(key) or (self._waiting[key], self._plan())
        return not self._known or forecast([sizes], settings, self._now()) <= self.deadline.left

    def took(self, group: Sequence[Task], seconds: float) -> None:
        """Learn what a group took."""
        sizes, settings = self._started[self._key(task.id for task in group)]
        if math.isfinite(seconds) and seconds > 0:
            self._measured = [*self._measured[1 - RECENT :], (forecast([sizes], settings, self._costs), seconds)]
            self._known = True

    def _plan(self) -> TTTSettings:
        if not self.replan or not self._known or not math.isfinite(self.deadline.left):
            return self.asked
        return best_fit(list(self._waiting.values()), self.asked, self._now(), self.deadline.left, self.devices)

    def _now(self) -> Costs:
        expected, real = (sum(numbers) for numbers in zip(*self._measured, strict=True)) if self._measured else (1, 1)
        return self._costs.scaled(real / expected)

    @staticmethod
    def _key(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(ids)


def difference(asked: TTTSettings, given: TTTSettings) -> str | None:
    """A note where a group was given less than was asked for, None where it was not."""
    changed = [
        f"{name} {getattr(asked, name)} → {getattr(given, name)}"
        for name in ("steps", "views", "min_prob")
        if getattr(asked, name) != getattr(given, name)
    ]
    return f"reduced to fit the deadline: {', '.join(changed)}" if changed else None
