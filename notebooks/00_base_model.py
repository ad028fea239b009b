# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · The base model
#
# > Where `models/arc-micro` comes from: a small language model that reads grids, pretrained on tasks that are never
# > scored.
#
# Everything in this suite is as good as the base that it adapts. When you have run this notebook you know
#
# - what the base is trained on, and the guard that keeps evaluation tasks out;
# - why a cell knows its column, its row and its grid (3-D rotary embedding);
# - how one wall-clock budget becomes warm-up, plateau and decay, and how a stopped run goes on;
# - what the model can do before any test-time training.
#
# **Time** (profile `laptop`): 20 minutes of training on a CPU; `tiny` takes one. The shipped weights took longer:
# their card, `models/arc-micro/README.md`, says how long and on what.

# %% [markdown]
# ## Parameters
#
# `None` means: the value of the profile (`configs/<profile>.yaml`).

# %% tags=["parameters"]
profile: str = "laptop"  # tiny, laptop, gpu or kaggle: which configs/<profile>.yaml fills the rest
seed: int = 0  # seed of weights, documents and augmentations
out_dir: str = None  # folder for what this run writes (default artifacts/00_base_model)
preset: str = None  # tiny, nano, micro, base or large: 0.15, 1.2, 3.1, 14 or 32 M parameters
arc_training: str = None  # set name, folder or file of ARC tasks to train on
re_arc: str = None  # RE-ARC file or folder (see data/README.md); empty = do without
concept_arc: str = None  # ConceptARC file or folder; empty = do without
procedural_share: float = None  # share of documents from our own rule families
max_side: int = None  # largest grid side, in cells
max_len: int = None  # longest document, in tokens
batch_tokens: int = None  # tokens a training step
deadline_seconds: float = None  # training time, earlier parts of a resumed run included; 0 = no limit
max_steps: int = None  # training steps; 0 = no limit
autocast: bool = None  # bfloat16 matrix products, for devices where they are real
lr_muon: float = None  # learning rate of the matrices
lr_adamw: float = None  # learning rate of the rest
warmup_steps: int = None  # steps of linear warm-up
decay_fraction: float = None  # last part of the run, with a falling rate
resume: bool = None  # go on from the checkpoint in out_dir, where there is one
out_model: str = None  # folder the trained model is written to

# %% [markdown]
# ## Setup

# %%
from arc_helpers import arc, lm, plot, runs

run = runs.start_notebook("00_base_model", globals())
config = run.config

# %% [markdown]
# ## 1 · What may be learned from, and what not
#
# A model that saw an evaluation task in pretraining has a worthless score on it. Whoever trains on ARC-AGI-2's
# training set, for one, has seen 376 of the 400 ARC-AGI-1 evaluation tasks. So a guard compares ids *and* pairs:

# %%
try:
    arc.check_split(arc.load_tasks("arcagi2/training"), arc.load_tasks("arcagi1/evaluation"))
except arc.SplitError as error:
    print("refused:", error)

# %% [markdown]
# **Gotcha.** Even ARC-AGI-1's own two sets are not disjoint: one training task repeats three pairs of an evaluation
# task under another id. It is left out here, together with what RE-ARC generates for it.

# %%
vocabulary = lm.GridVocabulary.from_tokenizer(lm.arc_tokenizer())
mixture, counts, left_out = lm.build_mixture(
    vocabulary,
    arc_training=config.arc_training,
    re_arc_path=config.re_arc,
    concept_arc_path=config.concept_arc,
    procedural_share=config.procedural_share,
    max_side=config.max_side,
    max_len=config.max_len,
    seed=run.seed,
)
for name, (share, _) in mixture.sources.items():
    print(f"{share:4.0%} {name:<13}", f"{counts[name]} tasks" if name in counts else "endless")
print(*left_out, sep="\n")

# %% [markdown]
# ## 2 · Our own tasks
#
# Each rule family is a function of a few lines: it draws its hidden parameters once, then as many pairs as you like.
# Two rules in a row make a harder task. A few of them, input above and output below:

# %%
import numpy as np

from arc_helpers.lm.procedural import RULES, gallery

pairs = list(gallery(np.random.default_rng(run.seed)))
assert len(pairs) == len(RULES) and len(RULES) >= 60
shown = pairs[:: max(1, len(pairs) // 12)][:12]
picture = plot.plot_gallery(
    [(f"{name} {side}", grid) for name, pair in shown for side, grid in (("in", pair.input), ("out", pair.output))]
)
run.log.figure(picture, "rules")
print(f"{len(RULES)} rule families")
picture

# %% [markdown]
# The whole gallery goes to `figures/rules_all.png`.

# %%
everything = [(f"{name}", grid) for name, pair in pairs for grid in (pair.input, pair.output)]
run.log.figure(plot.plot_gallery(everything, scale=0.4), "rules_all")

# %% [markdown]
# ## 3 · The model
#
# A decoder with one unusual part. Its rotary embedding turns by three numbers instead of one: column, row, and the
# number of the grid. The cell above, or the same cell in the input grid, is then the same small step away wherever
# it is. The three numbers are read off the tokens themselves. By hand, for a 2 × 2 grid and the start of its output:

# %%
import torch

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM

torch.manual_seed(run.seed)
model = GridLMForCausalLM(GridLMConfig.preset(config.preset)).to(run.device.device)
cells = vocabulary.grid_ids(np.array([[1, 2], [3, 4]]))
ids = [vocabulary.start, vocabulary.input_mark, *cells, vocabulary.output_mark]
positions = model.grid_positions(torch.tensor([ids], device=model.device))[0]  # [T, 3]
for token, (column, row, slot) in zip(ids, positions.tolist(), strict=True):
    print(f"{vocabulary.symbol(token)!r:>10}  column {column}  row {row}  grid {slot}")
assert positions[2].tolist() == [1, 1, 1] and positions[-1].tolist() == [0, 0, 2]

# %%
parameters = sum(p.numel() for p in model.parameters())
print(f"preset {config.preset}: {parameters / 1e6:.2f} M parameters, {parameters * 2 / 2**20:.1f} MB in half precision")

# %% [markdown]
# ## 4 · Documents
#
# A document is one task: demonstrations, then one more pair. Every output after the first counts in the loss, for
# with nothing shown yet the first cannot be known. Document *i* depends on the seed and *i* alone, so a resumed run
# needs no more than a counter.

# %%
assert (mixture.document(0)[1].input_ids == mixture.document(0)[1].input_ids).all()
name, document = min(map(mixture.document, range(20)), key=lambda drawn: len(drawn[1]))  # a short one, to look at
print(f"from {name}: {len(document)} tokens, {document.answer_tokens} of them count")
picture = plot.plot_tokens(document.input_ids, document.labels, vocabulary.symbol)
run.log.figure(picture, "document")
picture

# %% [markdown]
# ## 5 · Training
#
# Muon for the matrices, AdamW for the rest; averaged weights (EMA) for everything that is reported or saved. The
# run's length is a number of steps, a wall-clock budget, or whichever ends first.

# %%
settings = lm.PretrainConfig(
    steps=config.max_steps,
    seconds=config.deadline_seconds,
    decay_fraction=config.decay_fraction,
    warmup_steps=config.warmup_steps,
    batch_tokens=config.batch_tokens,
    lr_muon=config.lr_muon,
    lr_adamw=config.lr_adamw,
    autocast=config.autocast,
    seed=run.seed,
    log_every=10,
    evaluate_every=100,
)
shares = [i / 100 for i in range(101)]
length = settings.steps or 1000
rates = [lm.PretrainConfig(steps=length, warmup_steps=settings.warmup_steps).rate(int(p * length)) for p in shares]
plot.plot_curve(shares, {"learning rate": rates}, "factor of the peak", xlabel="share of the run")

# %% [markdown]
# What we watch beside the loss is a set of labelled tasks that are neither trained on nor scored: those of ARC-AGI-2
# training which ARC-AGI-1 does not have.

# %%
watched = lm.held_out_tasks(min(10, config.max_side))
checkpoint = run.out_dir / "checkpoint.pt"
if not config.resume:
    checkpoint.unlink(missing_ok=True)

# %%
history = []


def report(metrics):
    history.append(metrics)
    run.log.metric(**metrics)
    watch = ("step", "loss", "tokens_per_second", "held_out_loss")
    print("  ".join(f"{name} {metrics[name]:.4g}" for name in watch if name in metrics))

# %%
evaluate = lambda averaged: lm.held_out_score(averaged, watched, vocabulary, config.max_len)  # noqa: E731
trainer = lm.Pretrainer(model, mixture, settings, checkpoint, report, evaluate)
print(f"starts at step {trainer.step}")
result = trainer.run()

# %%
steps = [m["step"] for m in history]
picture = plot.plot_curve(
    steps,
    {"training": [m["loss"] for m in history], "held out": [m.get("held_out_loss", float("nan")) for m in history]},
    "nats a token",
)
run.log.figure(picture, "loss")
picture

# %% [markdown]
# ## 6 · What it can do
#
# Greedy answers to tasks it never saw, without any test-time training. *Exact* means every cell.

# %%
score = lm.held_out_score(trainer.averaged, watched, vocabulary, config.max_len)
low, high = arc.wilson_interval(score["held_out_exact"], score["held_out_tasks"])
print(
    f"exact: {score['held_out_exact']} of {score['held_out_tasks']} (95 % interval {low:.3f} to {high:.3f}), "
    f"{score['held_out_loss']:.3f} nats a token; guessing evenly would be 2.485"
)

# %% [markdown]
# ## 7 · Saved, with a card
#
# An ordinary Hugging Face folder: config, tokenizer, safetensors in half precision, and a card that says what went
# in.

# %%
card = lm.model_card(
    f"GridLM {config.preset}",
    {name: share for name, (share, _) in mixture.sources.items()},
    left_out,
    {
        "tokens seen": f"{result['tokens']:,}",
        "training steps": result["step"],
        "minutes": round(result["seconds"] / 60, 1),
        "device": f"{run.device.device} ({run.device.dtype})",
        "seed": run.seed,
        "grids up to": f"{config.max_side} × {config.max_side}",
        "held-out tasks solved exactly": f"{score['held_out_exact']} of {score['held_out_tasks']}, greedy, one view",
    },
)
folder = lm.save_model(trainer.averaged, runs.output_path(config.out_model), card)
loaded = lm.load_causal_lm(folder)
print(f"{sum(f.stat().st_size for f in folder.iterdir()) / 2**20:.1f} MB in {folder}")

# %%
ids = torch.from_numpy(document.input_ids)[None].to(model.device)
with torch.no_grad():
    difference = (trainer.averaged.eval()(ids).logits - loaded.model(ids).logits).abs().max().item()
assert difference < 0.1, "the saved model must answer like the trained one, up to half precision"
print(f"largest difference of a logit after saving in half precision: {difference:.4f}")

# %% [markdown]
# ## Results

# %%
summary = run.log.close(
    preset=config.preset,
    parameters=parameters,
    steps=result["step"],
    tokens=result["tokens"],
    tokens_per_second=round(result["tokens"] / result["seconds"]),
    loss=round(result["loss"], 4),
    held_out_loss=round(score["held_out_loss"], 4),
    held_out_exact=score["held_out_exact"],
    held_out_tasks=score["held_out_tasks"],
    training_seconds=round(result["seconds"], 1),
    model=str(folder),
)
summary

# %% [markdown]
# ## What to try next
#
# - `re_arc="data/re_arc.jsonl.xz"`: 360 more rule families, hundreds of examples each (`data/README.md` says where
#   the file comes from).
# - The same command again with a larger `deadline_seconds`: it goes on from the checkpoint.
# - `python -m arc_helpers run 02 --model_dir artifacts/00_base_model/model`: test-time training on your own base.
