"""Before a run: which K, steps, views and search bound fit into the hours, by measured costs or by a GPU's data sheet.

The run itself plans again before every group with the same arithmetic (`arc_helpers.ttt.budget`).
"""

import dataclasses
import json
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

from arc_helpers.arc import Task, choose_tasks, load_tasks
from arc_helpers.kaggle.submission_mode import RESERVE
from arc_helpers.lm.memory import GIB, Base, parameters_in
from arc_helpers.lm.prompt_form import FORMS, PromptForm
from arc_helpers.runs import ConfigError, resolve, resolve_path
from arc_helpers.ttt.budget import SEARCH, Costs, Size, best_fit, fit_costs, forecast, lesser, size_of, work
from arc_helpers.ttt.grouping import length_groups, training_length
from arc_helpers.ttt.memory import SHARE, Choice, Footprint, adapter_numbers, choose
from arc_helpers.ttt.settings import TTTSettings, settings_from

if TYPE_CHECKING:
    from arc_helpers.lm.loading import LoadedLM


VOCABULARY = 16  # rows of embedding and head that are kept
LARGEST_ANSWER = 30 * 31 + 1  # tokens
LONGEST = 2**16  # tokens up to which a longest sequence is looked for


@dataclass(frozen=True)
class GPU:
    """A data sheet: 16-bit operations a second without sparsity, bytes a second, GiB that a process gets; and the
    share of the operations that ARC training reached in public reports."""

    flops: float
    bandwidth: float
    memory: float
    share: float


GPUS = {
    "T4": GPU(65e12, 320e9, 14.6, 0.25),  # share: guessed from the L4's
    # NVARC 2025: 650 s a task of ARC-AGI-2 on an L4 (4 B parameters, 128 steps, 16 views); PoE 2025: 200 s on a 4090
    "L4": GPU(121e12, 300e9, 22.0, 0.30),
    "A100": GPU(312e12, 1555e9, 39.4, 0.20),  # share: guessed
    "H100": GPU(989e12, 3350e9, 79.1, 0.12),  # NVARC 2025: 128 steps in 30.8 s, ARC-AGI-1 evaluation, 4 B parameters
    "H200": GPU(989e12, 4800e9, 139.8, 0.12),
}


#: hidden, layers, intermediate, queries, keys, vocabulary
KNOWN = {
    "tinyllama": Base("TinyLlama-1.1B", 2048, 22, 5632, 2048, 256, 32000),
    "qwen2-7b": Base("Qwen2-7B", 3584, 28, 18944, 3584, 512, 152064),
    "llama-3.2-3b": Base("Llama-3.2-3B", 3072, 28, 8192, 3072, 1024, 128256, tied=True),
    "llama-3-8b": Base("Llama-3-8B", 4096, 32, 14336, 4096, 1024, 128256),
    "minitron-8b": Base("Mistral-NeMo-Minitron-8B", 4096, 40, 11520, 4096, 1024, 131072),
    "qwen3-4b": Base("Qwen3-4B", 2560, 36, 9728, 4096, 1024, 151936, tied=True, qk_norm=True),
}


@dataclass(frozen=True)
class Plan:
    """What fits: settings, its forecast and the time there is, both in seconds; and the next dearer that does not."""

    settings: TTTSettings
    seconds: float
    limit: float
    dearer: tuple[TTTSettings, float] | None
    fits: bool


@dataclass(frozen=True)
class Room:
    """What a card holds: how a group is trained on it (None: not even one task), the bytes that this takes with the
    weights, those of the card, and the longest sequence of a single task, in tokens."""

    choice: Choice | None
    taken: float
    memory: float
    longest: int

    @property
    def line(self) -> str:
        """In words."""
        taken = f"{self.taken / GIB:.1f} of {self.memory / GIB:.1f} GiB"
        longest = f"the longest sequence that fits has {self.longest} tokens"
        if self.choice is None:
            return f"{taken} for one task alone: {longest}: shorter (max_len), 4 bits, or mode=top_m"
        return f"{taken}: {self.choice.rung}; {longest}"


def base_of(model: str) -> Base:
    """A base by the name of a known one, or by its folder. Raises ConfigError, one line."""
    for name, base in KNOWN.items():
        if name in model.lower().replace("_", "-"):
            return base
    folder = resolve_path(model)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Base.of(config, folder.name, parameters_in(folder))
    except (OSError, ValueError, KeyError, struct.error):
        raise ConfigError(f"model = {model}: must be a model folder, or one of {', '.join(KNOWN)}") from None


def estimate(gpu: GPU, base: Base, four_bit: bool = False, checkpointing: bool = False) -> Costs:
    """Costs by a data sheet: 4 operations a parameter and trained token (forward; backward to the activations), 6 where
    the forward is run again, 2 a token read; a step of writing reads all weights once, and a 4-bit base unpacks them
    first."""
    operation = base.parameters / (gpu.flops * gpu.share)
    weight_bytes = (4.5 if four_bit else 2.0) * base.parameters
    launches = base.layers * 1e-3  # seconds that a forward takes however small the model is
    return Costs(
        train_step=10 * launches,
        train_token=(6 if checkpointing else 4) * operation,
        read_token=2 * operation,
        write_step=weight_bytes / (0.6 * gpu.bandwidth) + 2 * launches,
        write_token=2 * operation,
    )


def room_on(gpu: GPU, base: Base, settings: TTTSettings, tokens: int, four_bit: bool = False) -> Room:
    """How groups of at most `settings.k` tasks are trained on sequences of `tokens`, as the run itself will choose.
    Raises ConfigError where the weights alone are more than the card has."""
    memory, weights = gpu.memory * GIB, base.weight_bytes(four_bit=four_bit, trimmed=True)
    at_load, free = base.weight_bytes(four_bit=four_bit), SHARE * memory - weights
    if at_load > memory:
        needs = f"its weights take {at_load / GIB:.1f} GiB of {gpu.memory:.1f}"
        raise ConfigError(f"{base.name}: {needs}: {'a smaller base' if four_bit else '4 bits'}")
    layers = {"full": base.layers, "head": 0}.get(settings.mode, settings.top_m or max(1, base.layers // 4))
    numbers = adapter_numbers(base, settings.r, layers) if layers else 2 * settings.r * base.hidden
    footprint = Footprint(replace(base, vocabulary=VOCABULARY), numbers, layers, settings.r, four_bit=four_bit)
    wanted = {"auto": None, "on": True, "off": False}[settings.activation_checkpointing]
    choice = choose(footprint, free, settings.k, tokens, checkpointing=wanted)
    least = max(footprint.training(1, tokens, wanted is not False), footprint.answering(1, 1, tokens, LARGEST_ANSWER))
    longest = footprint.longest(free, LONGEST, LARGEST_ANSWER)
    if choice is None or least > free:
        return Room(None, weights + least, memory, longest)
    return Room(choice, weights + max(least, choice.bytes), memory, longest)


def measure(
    lm: "LoadedLM", tasks: Sequence[Task], settings: TTTSettings, clock: Callable[[], float] = time.perf_counter
) -> Costs:
    """Costs on this very device: groups of tasks are solved, each also with fewer steps and with fewer views."""
    from arc_helpers.ttt.group import solve_group

    fewer_steps = replace(settings, steps=settings.steps // 4)
    fewer_views = replace(fewer_steps, views=max(1, settings.views // 4))
    groups = groups_of(tasks, settings.k, lm.prompt_form, lm.max_len)
    solve_group(lm, groups[0], replace(settings, steps=1, views=1))  # what is loaded at first use
    works, seconds = [], []
    for group in groups:
        for asked in (settings, fewer_steps, fewer_views):
            start = clock()
            solve_group(lm, group, asked)
            seconds.append(clock() - start)
            works.append(work([size_of(task, lm.prompt_form, lm.max_len) for task in group], asked))
    return fit_costs(works, seconds)


def groups_of(tasks: Sequence[Task], k: int, prompt_form: PromptForm, max_len: int) -> list[list[Task]]:
    """Tasks as a run groups them."""
    return length_groups(list(tasks), [training_length(task, prompt_form, max_len) for task in tasks], k)


def make_plan(
    groups: Sequence[Sequence[Size]], settings: TTTSettings, costs: Costs, hours: float, devices: int
) -> Plan:
    """The best settings for groups on some devices within Kaggle's hours, half an hour of which is kept."""
    limit = hours * 3600 - RESERVE
    chosen = best_fit(groups, settings, costs, limit, devices)
    ladder = lesser(settings)
    dearer = ladder[ladder.index(chosen) - 1] if chosen != settings else None
    share = forecast(groups, chosen, costs) / devices
    above = (dearer, forecast(groups, dearer, costs) / devices) if dearer else None
    return Plan(chosen, share, limit, above, share <= limit)


def plan_lines(
    *, model: str, gpu: str, gpus: int, hours: float, tasks: int, data: str, profile: str, calibrate: int = 0
) -> Iterator[str]:
    """What `python -m arc_helpers plan` prints. Raises ConfigError, one line."""
    config = resolve("multilora_ttt", profile, {"model_dir": model} if resolve_path(model).is_dir() else {})
    if gpu.upper() not in (*GPUS, "CPU"):
        raise ConfigError(f"gpu = {gpu}: must be one of {', '.join(GPUS)}, CPU")
    base = base_of(model)
    settings = replace(richer(settings_from(config, 0)), strategy="dfs", min_prob=min(SEARCH))
    if gpu.upper() == "CPU" and not calibrate:
        raise ConfigError("gpu = CPU: has no data sheet: --calibrate 4 measures on this machine")
    public = [task.without_answers() for task in load_tasks(data)]
    four_bit, room = config.quantization != "none", None
    four_bit = four_bit or (not calibrate and base.parameters > 2e9)
    if calibrate:
        costs, how = _calibrated(config, settings, public, calibrate)
    else:
        sheet = GPUS[gpu.upper()]
        room = room_on(sheet, base, settings, config.max_len, four_bit)
        settings = replace(settings, k=room.choice.slots if room.choice else 1)
        costs = estimate(sheet, base, four_bit, room.choice is not None and room.choice.checkpointing)
        how = "estimated from the data sheet and public reports; --calibrate 4 measures, on the machine it runs on"
    prompt_form = FORMS.get(config.prompt_form, FORMS["suite"])  # auto: no tokenizer is read here
    wanted = list(islice(cycle(public), tasks))  # the hidden tasks are taken to be like the public ones
    groups = [
        [size_of(task, prompt_form, config.max_len) for task in group]
        for group in groups_of(wanted, settings.k, prompt_form, config.max_len)
    ]
    plan = make_plan(groups, settings, costs, hours, gpus)
    on = f"{gpus} × {gpu.upper()}, {base.name}{', 4 bits' if four_bit else ''}"
    most = f"at most {settings.steps} steps and {settings.views} views"
    yield f"{tasks} tasks like {data}, {on}, profile {profile}, {most}"
    yield f"costs: {how}"
    yield from ("  " + line for line in _costs_lines(costs))
    if room:
        yield f"memory: {room.line}"
    verdict = "fits" if plan.fits and (room is None or room.choice) else "DOES NOT FIT"
    yield f"{verdict}: {_knobs(plan.settings)}: {_hours(plan.seconds)} of {_hours(plan.limit)}"
    if plan.dearer:
        yield f"too much: {_knobs(plan.dearer[0])}: {_hours(plan.dearer[1])}"


def richer(settings: TTTSettings) -> TTTSettings:
    """At least as many steps and views as public notebooks use: from there a plan goes down."""
    return replace(settings, steps=max(settings.steps, 128), views=max(settings.views, 16))


def _calibrated(config, settings: TTTSettings, public: Sequence[Task], n: int) -> tuple[Costs, str]:
    from arc_helpers.lm.loading import ModelError, load_causal_lm

    chosen = choose_tasks(public, max_side=config.max_side, limit=n)
    try:
        lm = load_causal_lm(config.model_dir, quantization=config.quantization, max_len=config.max_len, trim_vocab=True)
    except ModelError as error:
        raise ConfigError(str(error)) from None
    start = time.perf_counter()
    costs = measure(lm, chosen, settings)
    return costs, f"measured on {len(chosen)} tasks on this {lm.device.type} in {time.perf_counter() - start:.0f} s"


def _costs_lines(costs: Costs) -> Iterator[str]:
    for name, seconds in dataclasses.asdict(costs).items():
        yield f"{name:<12}{1e6 * seconds:>12,.1f} µs"


def _knobs(settings: TTTSettings) -> str:
    search = f" min_prob={settings.min_prob:g}" if settings.strategy == "dfs" else f" strategy={settings.strategy}"
    return f"k={settings.k} steps={settings.steps} views={settings.views}{search}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 600 else f"{seconds:.0f} s"
