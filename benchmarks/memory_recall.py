"""Is it memory? Three meta-trained models, their controls and their rivals, on answers that attention cannot reach.

    recall     persona dialogues; new bindings of known words ("known"), names and values never seen in training
               ("new"), five facts of one kind ("same_kind"), facts told 2,500 tokens ago ("far"); after true,
               swapped, irrelevant and shuffled memory
    static     the rival: a twin of the same size, data and steps, trained without the inner loop, that learns at test
               time with the best of nine inner learning rates
    full       the ceiling: a twin with full attention, trained longer, since in as many steps it does not learn to look
               anything up; one seed
    mqar       32 pairs in 256 tokens: ours, the static twin at its best rate, titans-pytorch in the same CPU seconds
    adapters   LoRA and TinyLoRA for phrasings that the base does not know, trained through the inner loop or without

A piece is one of these for one seed, is kept in --folder, and is not computed again; `--piece recall --seed 1` computes
one, a call without them all that are missing, two at a time, and the table. `recall` has three seeds, and the bounds
(BOUNDS) hold in every one; the rest has one, or three with --rival-seeds 3, which takes about 50 minutes instead of 30.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arc_helpers.arc import wilson_interval
from arc_helpers.memory.adapters import trainable
from arc_helpers.memory.grid import bootstrap
from arc_helpers.memory.inner_loop import read
from arc_helpers.memory.meta import MetaConfig, MetaTrainer
from arc_helpers.memory.model import TTTConfig, TTTForCausalLM, load_model
from arc_helpers.memory.mqar import MQAR
from arc_helpers.memory.persona import PersonaDialogs, Style, chance
from arc_helpers.memory.probes import CONDITIONS, Scores, answer_scores, check_reach, probe_texts
from arc_helpers.memory.recipe import RECIPE, train_adapter, train_memory
from arc_helpers.memory.tokens import DialogTokens
from arc_helpers.runs import atomic_write_json, output_path

SEEDS, TEXTS, FAR_TEXTS = (0, 1, 2), 48, 24
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 0.03, 0.01)  # factors of the static twin's inner learning rate
MQAR_STEPS, MQAR_ROWS, MQAR_LR, ADAPTER_STEPS = 300, 8, 2e-3, 60
FULL_STEPS, FULL_LR = 3000, 2e-3
SETTINGS = {
    "mqar": (MQAR_STEPS, MQAR_ROWS, MQAR_LR),
    "adapters": (ADAPTER_STEPS,),
    "full": (FULL_STEPS, FULL_LR),
}
TEST_SEED = 10**6
TOKENS = DialogTokens()
STYLES = {
    "known": Style(facts=5, words="known"),
    "new": Style(facts=5, words="new"),
    "same_kind": Style(facts=5, words="known", kinds=1),
    "far": Style(facts=5, words="known", gap=2500),
}


def scores(model: TTTForCausalLM, style: Style, condition: str, n: int, **options) -> Scores:
    """Scores of n test texts, none of which is trained on; every question is beyond reach."""
    texts = probe_texts(PersonaDialogs(TOKENS, style, TEST_SEED), n, condition)
    check_reach(model, texts)
    return answer_scores(model, texts, learn=condition != "off", rows=8, **options)


def say(metrics: dict) -> None:
    if metrics["step"] % 50 == 0:
        print(metrics, file=sys.stderr, flush=True)


def recall(seed: int, folder: Path) -> dict:
    """Meta-train, save, and test under every condition."""
    start = time.process_time()
    model, trained = train_memory(TOKENS, seed, checkpoint=folder / f"recall_{seed}.pt", on_metrics=say)
    row = {"train_cpu_s": time.process_time() - start, "train_wall_s": trained["seconds"], "loss": trained["loss"]}
    model.save_pretrained(folder / f"model_{seed}")
    for name, style in STYLES.items():
        for condition in CONDITIONS if name in ("known", "new") else ("true", "off"):
            found = scores(model, style, condition, FAR_TEXTS if name == "far" else TEXTS)
            row[f"{name}_{condition}"] = found.answer.mean()
            row[f"{name}_{condition}_all"] = found.everything.mean()
            if condition == "true":
                row |= {f"{name}_recalled": found.recalled, f"{name}_answers": int(found.answers.sum())}
                row |= {f"{name}_first": found.first.mean(), f"{name}_skipped": found.skipped}
                true = found
            elif condition == "off":
                row[f"{name}_delta_low"], row[f"{name}_delta_high"] = bootstrap(found.answer - true.answer)
        row[f"{name}_chance"] = chance(style)
    return row


def static(seed: int, folder: Path) -> dict:
    """The twin trained without an inner loop, learning at test time; its best rate is chosen on these very texts."""
    model, trained = train_memory(TOKENS, seed, order=0, checkpoint=folder / f"static_{seed}.pt", on_metrics=say)
    model.save_pretrained(folder / f"static_{seed}")
    off = scores(model, STYLES["known"], "off", TEXTS)
    row = {"train_wall_s": trained["seconds"], "off": off.answer.mean(), "off_all": off.everything.mean()}
    found = {rate: scores(model, STYLES["known"], "true", TEXTS, lr_scale=rate) for rate in RATES}
    best = max(found, key=lambda rate: (found[rate].recalled, -found[rate].answer.mean()))
    lowest = min(found, key=lambda rate: found[rate].answer.mean())
    row |= {"best_rate": best, "recalled": found[best].recalled, "answers": int(off.answers.sum())}
    row |= {"answer": found[best].answer.mean(), "all": found[best].everything.mean()}
    return row | {"lowest_rate": lowest, "lowest_answer": found[lowest].answer.mean()}


def full(seed: int, folder: Path) -> dict:
    """The twin that sees everything and learns nothing."""
    recipe = replace(RECIPE, steps=FULL_STEPS, lr=FULL_LR)
    checkpoint = folder / f"full_{seed}.pt"
    model, trained = train_memory(
        TOKENS, seed, recipe, order=0, full_attention=True, checkpoint=checkpoint, on_metrics=say
    )
    model.save_pretrained(folder / f"full_{seed}")
    found = scores(model, STYLES["known"], "off", TEXTS)
    return {"train_wall_s": trained["seconds"], "answer": found.answer.mean(), "recalled": found.recalled}


def mqar(seed: int, _folder: Path) -> dict:
    """The three rivals on associative recall."""
    task, row = MQAR(seed=seed), {}
    for name, order in (("ours", 2), ("static", 0)):
        torch.manual_seed(seed)
        model = TTTForCausalLM(TTTConfig.preset("nano", task.vocab_size))
        assert task.gap > model.config.reach
        start = time.process_time()
        config = MetaConfig(steps=MQAR_STEPS, lr=MQAR_LR, order=order)
        MetaTrainer(model, lambda step, task=task: task.batch(step, MQAR_ROWS)[0], config).run()
        row[f"{name}_cpu_s"] = time.process_time() - start
        rates = (1.0,) if name == "ours" else RATES
        tested = [mqar_answers(lambda ids, m=model, r=rate: read(m, ids, lr_scale=r).nll, task) for rate in rates]
        row |= {name: min(loss for loss, _ in tested), f"{name}_recall": max(recall for _, recall in tested)}
        row[f"{name}_off"] = mqar_answers(lambda ids, m=model: read(m, ids, learn=False).nll, task)[0]
    return row | titans(seed, task, row["ours_cpu_s"])


def mqar_answers(nll_of: Callable[[Tensor], Tensor], task: MQAR) -> tuple[float, float]:
    """(answer loss, share of answers with p > 0.5) over 64 test texts."""
    batch, answers = task.batch(10**8, 64)
    losses = nll_of(batch.ids)[answers[:, 1:]]
    return losses.mean().item(), (losses < np.log(2)).float().mean().item()


def titans(seed: int, task: MQAR, cpu_seconds: float) -> dict:
    """titans-pytorch's Memory-as-Context transformer, its defaults scaled to our width and depth, the same CPU time."""
    try:
        from titans_pytorch import MemoryAsContextTransformer, MemoryMLP
    except ImportError:
        print("titans-pytorch is missing: pip install titans-pytorch==0.5.5", file=sys.stderr)
        return {}
    torch.manual_seed(seed)
    model = MemoryAsContextTransformer(
        num_tokens=task.vocab_size,
        dim=96,
        depth=2,
        dim_head=24,
        heads=4,
        segment_len=16,
        num_persist_mem_tokens=4,
        num_longterm_mem_tokens=4,
        neural_memory_layers=(1, 2),
        neural_memory_segment_len=4,
        neural_memory_model=MemoryMLP(dim=24, depth=2, expansion_factor=2.0),
        neural_memory_kwargs={"dim_head": 24, "heads": 4, "attn_pool_chunks": True, "qk_rmsnorm": True},
        use_flex_attn=False,
    )
    for parameter in model.parameters():  # some are views of one memory a head, which AdamW cannot step in place
        parameter.data = parameter.data.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
    start, steps = time.process_time(), 0
    while (done := (time.process_time() - start) / cpu_seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (steps + 1) / 20) * (1 + np.cos(np.pi * done)) / 2
        model(task.batch(steps, MQAR_ROWS)[0].ids, return_loss=True).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1

    @torch.no_grad()
    def nll(ids: Tensor) -> Tensor:
        logits = torch.cat([model(part[:, :-1]) for part in ids.split(16)])
        return F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")

    loss, found = mqar_answers(nll, task)
    parameters = sum(p.numel() for p in model.parameters())
    return {"titans": loss, "titans_recall": found, "titans_steps": steps, "titans_parameters": parameters}


def adapters(seed: int, folder: Path) -> dict:
    """The 2 × 2 of {trained through the loop, trained without} × {learning on, off}, on the held-out phrasings that the
    adapters are trained for ("lora_loop_true") and on the base's own ("lora_loop_own_true")."""
    row = on_and_off(load(folder, seed), "base")
    for kind in ("lora", "tinylora"):
        for way, order in (("plain", 0), ("loop", 2)):
            model = load(folder, seed)
            wrapped = train_adapter(model, TOKENS, kind, steps=ADAPTER_STEPS, order=order, seed=seed)
            row[f"{kind}_parameters"] = trainable(wrapped)
            row |= on_and_off(model, f"{kind}_{way}")
    return row


def load(folder: Path, seed: int) -> TTTForCausalLM:
    return load_model(folder / f"model_{seed}")


def on_and_off(model: TTTForCausalLM, name: str) -> dict[str, float]:
    """Answer and all-token loss with learning off and on, after swapped memory, and the share of answers recalled."""
    row = {}
    for prefix, wording in ((name, "held_out"), (f"{name}_own", "trained")):
        for condition in ("off", "true", "swapped"):
            found = scores(model, Style(facts=5, words="known", wording=wording), condition, TEXTS)
            row |= {f"{prefix}_{condition}": found.answer.mean(), f"{prefix}_{condition}_all": found.everything.mean()}
            if condition == "true":
                row[f"{prefix}_recall"] = found.recalled / found.answers.sum()
    return row


PIECES = {"recall": recall, "static": static, "full": full, "mqar": mqar, "adapters": adapters}


def seeds_of(piece: str, rival_seeds: int) -> tuple[int, ...]:
    """The ceiling is a backdrop, not a claim: one seed."""
    return SEEDS if piece == "recall" else SEEDS[: 1 if piece == "full" else rival_seeds]


def merge(rows: dict[str, list[dict]]) -> dict:
    """The flat result. Of several seeds the worst counts, for every bound."""
    found: dict[str, float | int | bool] = {"seeds": len(rows["recall"])}
    for name in ("known", "new"):
        reference = [min(row[f"{name}_off"], row[f"{name}_chance"]) for row in rows["recall"]]
        pairs = list(zip(reference, rows["recall"], strict=True))
        found[f"{name}_reduction"] = min(1 - row[f"{name}_true"] / ref for ref, row in pairs)
        gains = [max(0.0, ref - row[f"{name}_irrelevant"]) / (ref - row[f"{name}_true"]) for ref, row in pairs]
        found[f"{name}_irrelevant_gain_share"] = max(gains)
        found[f"{name}_swapped_worse"] = all(row[f"{name}_swapped"] > row[f"{name}_off"] for row in rows["recall"])
    for name in STYLES:
        hits, asked = (sum(row[f"{name}_{what}"] for row in rows["recall"]) for what in ("recalled", "answers"))
        found |= {f"{name}_recall": hits / asked, f"{name}_answers": asked}
        found[f"{name}_recall_low"], found[f"{name}_recall_high"] = wilson_interval(hits, asked)
        found[f"{name}_recall_worst"] = min(row[f"{name}_recalled"] / row[f"{name}_answers"] for row in rows["recall"])
    found["static_rival_recall"] = sum(r["recalled"] for r in rows["static"]) / sum(
        r["answers"] for r in rows["static"]
    )
    found["static_rival_all_token_change"] = mean(r["all"] - r["off_all"] for r in rows["static"])
    found["all_token_change"] = mean(r["known_true_all"] - r["known_off_all"] for r in rows["recall"])
    ceiling, first = rows["full"][0]["answer"], rows["recall"][0]
    found["full_attention_answer"] = ceiling
    found["bits_recovered"] = (first["known_off"] - first["known_true"]) / (first["known_off"] - ceiling)
    for name, worst in (("ours", max), ("static", min), ("titans", min)):  # of the rivals the best seed counts
        found |= {f"mqar_{name}": worst(r.get(name, np.nan) for r in rows["mqar"])}
        found |= {f"mqar_{name}_recall": mean(r.get(f"{name}_recall", np.nan) for r in rows["mqar"])}
    taken_off = lambda row, name: 1 - row[f"{name}_true"] / row[f"{name}_off"]  # noqa: E731
    for name in ("base", "lora_loop", "lora_plain", "tinylora_loop", "tinylora_plain"):
        for way in (name, f"{name}_own"):
            base = "base_own" if way.endswith("_own") else "base"
            found[f"{way}_keeps"] = mean(taken_off(r, way) / taken_off(r, base) for r in rows["adapters"])
            found[f"{way}_recall"] = mean(r[f"{way}_recall"] for r in rows["adapters"])
            found[f"{way}_all_token_change"] = mean(
                r[f"{way}_true_all"] - r[f"{way}_off_all"] for r in rows["adapters"]
            )
    return found


def mean(values) -> float:
    return float(np.mean(list(values)))


BOUNDS: dict[str, Callable[[dict], bool]] = {
    "known: answer loss -90 %": lambda f: f["known_reduction"] >= 0.9,
    "known: recall 95 %": lambda f: f["known_recall_worst"] >= 0.95,
    "new: answer loss -90 %": lambda f: f["new_reduction"] >= 0.9,
    "new: recall 95 %": lambda f: f["new_recall_worst"] >= 0.95,
    "swapped memory is worse than off": lambda f: f["known_swapped_worse"] and f["new_swapped_worse"],
    "irrelevant memory < 5 %": lambda f: max(f["known_irrelevant_gain_share"], f["new_irrelevant_gain_share"]) < 0.05,
    "2,500 tokens ago: recall 90 %": lambda f: f["far_recall_worst"] >= 0.9,
    "MQAR <= 0.1": lambda f: f["mqar_ours"] <= 0.1,
    "better than the static rival": lambda f: (
        f["known_recall"] > f["static_rival_recall"] and f["mqar_ours"] < f["mqar_static"]
    ),
    "all-token loss not raised": lambda f: f["all_token_change"] <= 0,
    "better than titans": lambda f: f["mqar_ours"] < f["mqar_titans"],
    "adapters keep 90 %": lambda f: min(f["lora_loop_keeps"], f["lora_loop_own_keeps"]) >= 0.9,
}


def compute(piece: str, seed: int, folder: Path) -> None:
    """One piece, unless it is there already. Exits where it was made with other settings."""
    path, settings = folder / f"{piece}_{seed}.json", repr((RECIPE, *SETTINGS.get(piece, ())))
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")).get("settings") != settings:
            sys.exit(f"{path}: was made with other settings; give another --folder")
        return
    start = time.monotonic()
    row = PIECES[piece](seed, folder)
    spent = {"wall_s": time.monotonic() - start, "cpu_seconds": time.process_time()}
    atomic_write_json(path, {**row, **spent, "settings": settings})
    print(f"{piece} {seed}: {time.monotonic() - start:.0f} s", file=sys.stderr)


def compute_all(folder: Path, jobs: int, rival_seeds: int) -> None:
    """Every piece that is missing, `jobs` processes of one thread at a time."""
    started: dict[tuple[str, int], Future] = {}

    def alone(piece: str, seed: int) -> None:
        if piece == "adapters":  # of that model; it was started long before
            started["recall", seed].result()
        words = ["--piece", piece, "--seed", str(seed), "--folder", str(folder)]
        subprocess.run([sys.executable, __file__, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)

    with ThreadPoolExecutor(jobs) as pool:
        for piece in PIECES:
            for seed in seeds_of(piece, rival_seeds):
                started[piece, seed] = pool.submit(alone, piece, seed)
    for future in started.values():
        future.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--piece", choices=PIECES, help="only this one, of --seed")
    parser.add_argument("--seed", type=int, choices=SEEDS, default=0, help="of --piece")
    parser.add_argument("--folder", default="artifacts/memory_recall", help="where pieces are kept")
    parser.add_argument("--jobs", type=int, default=2, help="pieces computed at the same time, one thread each")
    parser.add_argument("--rival-seeds", type=int, choices=(1, 2, 3), default=1, help="seeds of all but recall")
    options = parser.parse_args()
    folder = output_path(options.folder)
    if options.piece:
        compute(options.piece, options.seed, folder)
        return
    compute_all(folder, options.jobs, options.rival_seeds)
    rows: dict[str, list[dict]] = {}
    for piece in PIECES:
        paths = [folder / f"{piece}_{seed}.json" for seed in seeds_of(piece, options.rival_seeds)]
        rows[piece] = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    found = merge(rows)
    for name, holds in BOUNDS.items():
        print(f"{'yes' if holds(found) else 'NO ':<5}{name}")
    result = {
        "answer_loss_reduction": min(found["known_reduction"], found["new_reduction"]),
        "recall_beyond_reach": min(found["known_recall_worst"], found["new_recall_worst"]),
        "swapped_is_worse_than_off": found["known_swapped_worse"] and found["new_swapped_worse"],
        "irrelevant_gain_share": max(found["known_irrelevant_gain_share"], found["new_irrelevant_gain_share"]),
        **found,
        "cpu_seconds": sum(row.get("cpu_seconds", row["wall_s"]) for piece in PIECES for row in rows[piece]),
    }
    passed = all(holds(found) for holds in BOUNDS.values())
    shown = {name: round(value, 4) if isinstance(value, float) else value for name, value in result.items()}
    print(json.dumps({**shown, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
