"""A scene a notebook: a small run in a RunFolder that writes the same files by the same functions as the notebook does,
and goes on where an earlier play in that folder was stopped."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from arc_helpers import hybrid, lm, memory, runs, ttt
from arc_helpers.arc import Pair, SubmissionWriter, Task, num_tests_of
from arc_helpers.hybrid import HybridConfig, HybridModel, JointConfig, JointTrainer
from arc_helpers.hybrid.tiny import tiny_examples, tiny_lm, tiny_trm
from arc_helpers.pretrain.export import save_model

CPU = runs.choose_device("cpu")  # its sums are the same to the last bit from run to run


def tasks() -> list[Task]:
    def turned(name: str, *rows: list[int]) -> Task:
        return Task(name, tuple(Pair([r], [r[::-1]]) for r in rows[:-1]), (Pair([rows[-1]]),))

    return [turned("a", [1, 2, 0], [3, 0, 0], [0, 4, 5]), turned("b", [1, 0], [2, 0], [7, 0])]


@lru_cache(maxsize=1)
def base() -> lm.LoadedLM:
    return tiny_lm()


def opened(folder: Path, notebook: str) -> tuple[runs.RunFolder, runs.RunLog, bool]:
    own = runs.RunFolder(folder, notebook, {"seed": 0}, {"code": "x"}, goes_on=True)
    resumed = own.open().verb == "resume"
    for name in ("metrics.jsonl", "tasks.jsonl", "summary.json"):
        (folder / name).unlink(missing_ok=True)
    return own, runs.RunLog(own, notebook, "tiny", 0, {}, CPU), resumed


def base_model(folder: Path) -> None:
    _, log, _ = opened(folder, "00")
    often = {"checkpoint_every": 1, "log_every": 1}
    config = ttt.joint_config(CPU.device, 3, batch_tokens=128, engine=False, autocast=False, **often)
    learned = ttt.adapt_jointly(base(), tasks(), config, checkpoint=folder / "checkpoint.pt", on_metrics=lambda m: None)
    save_model(learned.model, folder / "model", "a card")
    log.close(done=1)


def tokens(folder: Path) -> None:
    _, log, _ = opened(folder, "01")
    for step in range(3):
        log.metric(step, loss=step / 3)
    runs.atomic_write_text(folder / "figures" / "tokens.txt", "drawn")
    log.close(done=1)


SETTINGS = ttt.TTTSettings(k=1, steps=2, num_pseudo=2, r=2, alpha=4.0, lr=1e-2, views=2, select="votes", cache_gib=1)


def test_time(folder: Path) -> None:
    _, log, resumed = opened(folder, "02")
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(tasks()), resume=resumed)
    config = ttt.joint_config(CPU.device, 2, batch_tokens=128, checkpoint_every=1, engine=False, autocast=False)
    learner = ttt.adapt_jointly(base(), tasks(), config, checkpoint=folder / "joint.pt")
    ttt.solve_tasks(learner, tasks(), SETTINGS, log, writer, resume=resumed)
    log.close(done=1)


@lru_cache(maxsize=1)
def puzzles() -> Any:
    from arc_helpers.trm import make_sudoku

    return make_sudoku(8, 2, seed=0)


def recursive(folder: Path) -> None:
    from arc_helpers import trm

    _, log, _ = opened(folder, "03")
    torch.manual_seed(0)
    shape = trm.TRMConfig.preset("sudoku", hidden_size=16, num_heads=2, width_multiple=8)
    config = trm.TrainConfig(steps=3, batch_tokens=80, checkpoint_every=1, log_every=1)
    trainer = trm.Trainer(trm.TRM(shape), trm.SudokuSource(puzzles()), config, folder / "checkpoint.pt")
    trainer.run()
    trm.save_trm(trainer.averaged, folder / "model")
    writer = SubmissionWriter(folder / "submission.json", num_tests_of(tasks()))
    writer.set("a", [([[1]], [[2]])])
    log.close(done=1)


def joined(folder: Path) -> None:
    _, log, _ = opened(folder, "04")
    model = HybridModel(base(), tiny_trm(), HybridConfig(canvas_side=3))
    config = JointConfig(steps=3, batch_size=4, warmup_steps=1, checkpoint_every=1, log_every=1, max_attempts=1)
    JointTrainer(model, tiny_examples(12), config, folder / "checkpoints" / "joint.pt").run()
    hybrid.save_hybrid(model, folder / "model")
    log.close(done=1)


@lru_cache(maxsize=1)
def words() -> memory.DialogTokens:
    return memory.DialogTokens()


def dialog(folder: Path) -> None:
    _, log, _ = opened(folder, "05")
    style = replace(memory.Recipe().style, length=64, gap=8)
    recipe = memory.Recipe(model_size="tiny", window=8, ttt_batch=8, rows=1, steps=3, style=style)
    model = memory.new_model(words(), 0, recipe)
    dialogs = memory.PersonaDialogs(words(), style, 0)
    config = memory.MetaConfig(steps=3, order=1, save_every=1, log_every=1)
    memory.MetaTrainer(model, lambda step: dialogs.batch(step, 1), config, folder / "meta.pt").run()
    runs.save_tensors(folder / "memory.safetensors", model.state_dict())
    log.close(done=1)


def remembered(folder: Path) -> None:
    _, log, _ = opened(folder, "06")
    for cell in range(3):
        log.task(f"cell {cell}", recall=cell / 3)
    log.close(done=1)


def linear(folder: Path) -> None:
    _, log, _ = opened(folder, "07")
    if not (folder / "base" / "config.json").is_file():
        with runs.replacing_folder(folder / "base") as draft:
            runs.save_tensors(draft / "model.safetensors", {"w": torch.arange(6.0)})
            runs.atomic_write_json(draft / "config.json", {"hidden": 6})
    for _ in range(2):  # the notebook saves twice, over its own
        with runs.replacing_folder(folder / "model") as draft:
            runs.atomic_write_json(draft / "config.json", {"rank": 2})
    log.close(done=1)


SCENES: dict[str, Callable[[Path], None]] = {
    "00": base_model, "01": tokens, "02": test_time, "03": recursive,
    "04": joined, "05": dialog, "06": remembered, "07": linear,
}  # fmt: skip
