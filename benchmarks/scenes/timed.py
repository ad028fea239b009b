"""What has `deadline_seconds`, on a small scale: it trains and answers for longer than it is given, unless it looks at
the clock."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import torch

from arc_helpers import hybrid, pretrain, runs, trm, ttt
from arc_helpers.arc import Pair, SubmissionWriter, Task, num_tests_of, validate_submission, write_tasks
from arc_helpers.hybrid import HybridConfig, HybridModel, JointConfig, JointTrainer
from arc_helpers.hybrid.tiny import tiny_examples, tiny_trm
from scenes import CPU, SETTINGS, base, tasks

MANY = [Task(f"{t.id}{i}", t.train, t.test) for i in range(6) for t in tasks()]
ENDLESS = 10**6  # steps


def base_model(folder: Path, deadline: runs.Deadline, rng: random.Random) -> bool:
    """00: training on grids, then the loss of labelled tasks."""
    config = ttt.joint_config(CPU.device, ENDLESS, deadline.part(0.9), batch_tokens=128, engine=False, autocast=False)
    learned = ttt.adapt_jointly(base(), tasks(), config)
    labelled = [replace(t, test=(Pair(t.test[0].input, [[1, 2]]),)) for t in MANY] * 50
    score = pretrain.held_out_score(learned.model, labelled, base().prompt_form, base().max_len, deadline)
    return score["held_out_tasks"] >= 1


def test_time(folder: Path, deadline: runs.Deadline, rng: random.Random) -> bool:
    """02: groups of adapters."""
    settings = replace(SETTINGS, k=4, steps=5000, views=8, strategy=rng.choice(("greedy", "dfs")), select="product")
    log = runs.RunLog(folder, "02", "tiny", 0, {}, CPU)
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(MANY))
    ttt.solve_tasks(base(), MANY, settings, log, writer, deadline=deadline, replan=rng.random() < 0.5)
    return not validate_submission(writer.path, num_tests_of(MANY))


def recursive(folder: Path, deadline: runs.Deadline, rng: random.Random) -> bool:
    """03: training of a TRM on the demonstrations, then answers in many views."""
    write_tasks(MANY, folder / "source" / "evaluation")
    dataset = trm.build_arc_dataset(
        folder / "source", folder / "dataset", subsets=["evaluation"], test_set_name="evaluation", num_aug=0, seed=0
    )
    shape = {"hidden_size": 16, "num_heads": 2, "width_multiple": 8, "conditioned_rows": 1 + len(dataset.task_ids)}
    model = trm.TRM(trm.TRMConfig.preset("tiny", **shape))
    config = trm.TrainConfig(steps=None, seconds=deadline.part(0.8), batch_tokens=80)
    trainer = trm.Trainer(model, trm.ArcSource(dataset, "tight", "symmetries"), config)
    trainer.run()
    found = trm.predict(trainer.averaged, dataset, layout="tight", views=8, deadline=deadline, batch_tokens=16)
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(MANY))
    trm.write_votes(writer, trm.vote(found), MANY)
    return not validate_submission(writer.path, num_tests_of(MANY))


def joined(folder: Path, deadline: runs.Deadline, rng: random.Random) -> bool:
    """04: joint training, then sixteen attempts at each question."""
    model, examples = HybridModel(base(), tiny_trm(), HybridConfig(canvas_side=3)), tiny_examples(40)
    config = JointConfig(steps=None, seconds=deadline.part(0.6), batch_size=4, warmup_steps=1)
    JointTrainer(model, examples, config).run()
    asked = [example.question for example in examples]
    answers = hybrid.solve(model, asked, attempts=16, stop=False, batch_size=4, deadline=deadline)
    return len(answers) == len(asked)


TIMED: list[Callable[[Path, runs.Deadline, random.Random], bool]] = [base_model, test_time, recursive, joined]


def overruns(room: Path, many: int, rng: random.Random) -> Iterator[tuple[str, float, float, bool]]:
    """(which, deadline, seconds that it took, whether there is an answer to all that was asked)."""
    for number in range(many):
        play = TIMED[number % len(TIMED)]
        folder = room / f"late-{number}"
        folder.mkdir(parents=True)
        torch.manual_seed(0)
        seconds, began = rng.uniform(0.05, 2.0), time.monotonic()
        with redirect_stdout(StringIO()):
            valid = play(folder, runs.Deadline(seconds), rng)
        yield play.__name__, seconds, time.monotonic() - began, valid
