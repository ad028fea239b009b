# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,jupyter
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · The base model
#
# > Where `models/arc-micro` comes from: a small language model that reads grids, pretrained on tasks that are never
# > scored. Or, with `base`, how a language model that knows no grids becomes one that does.
#
# Everything in this suite is as good as the base that it adapts. When you have run this notebook you know
#
# - what the base is trained on, and the guard that keeps evaluation tasks out;
# - why a cell knows its column, its row and its grid (3-D rotary embedding);
# - how documents share a row of tokens without seeing each other;
# - how one wall-clock budget becomes warm-up, plateau and decay, and how a stopped run goes on;
# - what the model can do before any test-time training.
#
# **Time** (profile `laptop`): 22 minutes, of which 20 are training, on two CPU cores as on a T4 or an H200 (an
# estimate): the run has a budget of time, and a GPU makes more steps in it. `tiny` takes one minute. The shipped weights
# took longer: their card, `models/arc-micro/README.md`, says how long and on what.
#
# **A language model as base.** With `base="models/smollm2-135m"` (`python -m arc_helpers models get smollm2-135m`), or any
# other folder, no GridLM is grown: a LoRA in that model learns the same mixture in a prompt form, which is what every
# winner has done before test-time training. Everything below then holds for it, but for section 3. What is written is
# an adapter, which 02 takes as `model_dir`, or as `start_adapter` under its own; `merge=true` writes the whole model, too.

# %% tags=["find-package"]
import glob, importlib.util as util, subprocess, sys

found = util.find_spec("arc_helpers") or sys.path.extend([".", ".."]) or util.find_spec("arc_helpers")
wheels = [] if found else glob.glob("*.whl") + glob.glob("/kaggle/input/**/[ad]r*.whl", recursive=True)
assert found or wheels, "arc_helpers is missing: open this in its clone, or attach our dataset (Add Input)"
assert found or not subprocess.call([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *wheels])

# %% [markdown]
# ## Parameters
#
# `None` means: the value of the profile (`configs/<profile>.yaml`).

# %% tags=["main-parameters"]
profile: str = "laptop"  # tiny, laptop, gpu or kaggle: which configs/<profile>.yaml fills the rest
arc_training: str = None  # set name, folder or file of ARC tasks to train on
base: str = None  # folder of a language model to fine-tune by LoRA; empty = grow a GridLM
preset: str = None  # tiny, nano, micro, base or large: 0.15, 1.2, 3.1, 14 or 32 M parameters
deadline_seconds: float = None  # wall-clock budget of this run; 0 = no limit
max_steps: int = None  # training steps; 0 = no limit

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of weights, documents and augmentations
out_dir: str = None  # folder for what this run writes (default artifacts/00_base_model)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it

prompt_form: str = None  # how tasks are spelled to that base: auto (as it was trained), suite, architects or nvarc
quantization: str = None  # none or 4bit: how that base is loaded
r: int = None  # rank of its LoRA
alpha: float = None  # its output is scaled by alpha / r, or by alpha / √r with use_rslora
use_rslora: bool = None  # rank-stabilised scale
target_modules: str = None  # linear layers with a LoRA, such as q_proj,v_proj; empty = all
train_rows: bool = None  # train embedding and head rows of the tokens in use, too
checkpointing: bool = None  # compute the base's layers again in the backward pass, to save memory
lr_lora: float = None  # learning rate of LoRA and rows
merge: bool = None  # also write the base with the LoRA merged in

re_arc: str = None  # RE-ARC file or folder (see data/README.md); empty = do without
concept_arc: str = None  # ConceptARC file or folder; empty = do without
procedural_share: float = None  # share of documents from our own rule families
pair_share: float = None  # share of documents that are one pair alone
enlarge_share: float = None  # share of documents that are upscaled and get a margin
max_side: int = None  # largest grid side, in cells
max_len: int = None  # longest document, in tokens
curriculum: str = None  # smaller tasks first, as share:max_side:max_len, ...; empty = all sizes from the start
batch_tokens: int = None  # tokens a training step
micro_tokens: int = None  # tokens of one forward, gradients are summed up to a step; 0 = all at once
pack: bool = None  # several documents in a row of fixed length, instead of padding
compile: bool = None  # torch.compile the model, where that works
autocast: bool = None  # bfloat16 matrix products, for devices where they are real
lr_muon: float = None  # learning rate of the matrices
lr_adamw: float = None  # learning rate of the rest
warmup_steps: int = None  # steps of linear warm-up
out_model: str = None  # folder the trained model is written to (default: model/ in out_dir)

# %% [markdown]
# ## Setup

# %%
from arc_helpers import arc, lm, play, plot, pretrain, runs

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
model, spelling, max_len = pretrain.model_from(config, run.seed)
print(spelling.description)
curriculum, counts, left_out = pretrain.corpus_from(config, spelling, run.seed, max_len)
mixture = curriculum.stages[-1][1]  # of the last, or only, stage
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

from arc_helpers.rules import RULES, gallery

tasks = list(gallery(np.random.default_rng(run.seed)))
pairs = [(task.id, task.train[0]) for task in tasks]
assert len(tasks) == len(RULES) and len(RULES) >= 60
shown = pairs[:: max(1, len(pairs) // 12)][:12]
picture = plot.plot_gallery(
    [(f"{name} {side}", grid) for name, pair in shown for side, grid in (("in", pair.input), ("out", pair.output))]
)
run.log.figure(picture, "rules")
print(f"{len(RULES)} rule families")
picture

# %% [markdown]
# The whole gallery goes to `figures/rules_all.png`. Here is a task of every family to play with: solve
# some, or draw one of your own; can you tell the rule?

# %%
everything = [(f"{name}", grid) for name, pair in pairs for grid in (pair.input, pair.output)]
run.log.figure(plot.plot_gallery(everything, scale=0.4), "rules_all")
play.open_playground(tasks)

# %% [markdown]
# ## 3 · The model
#
# GridLM is a decoder with one unusual part. Its rotary embedding turns by three numbers instead of one: column, row, and the
# number of the grid. The cell above, or the same cell in the input grid, is then the same small step away wherever
# it is. The three numbers are read off the tokens themselves. By hand, for a 2 × 2 grid and the start of its output:

# %%
import torch

from arc_helpers.lm.gridlm import GridLMConfig, GridLMForCausalLM

gridlm, own = GridLMForCausalLM(GridLMConfig.preset(config.preset)), lm.PromptForm.from_tokenizer(lm.arc_tokenizer())
ids = [*own.prefix_ids, *own.question_ids(np.array([[1, 2], [3, 4]]))]
positions = gridlm.grid_positions(torch.tensor([ids]))[0]  # [T, 3]
for token, (column, row, slot) in zip(ids, positions.tolist(), strict=True):
    print(f"{own.symbol(token)!r:>10}  column {column}  row {row}  grid {slot}")
assert positions[2].tolist() == [1, 1, 1] and positions[-1].tolist() == [0, 0, 2]

# %% [markdown]
# All of it is learned, and all of it goes into the repository in half precision. Of a fine-tuned base the LoRA learns,
# and the embedding rows of the few tokens in use:

# %%
parameters = sum(p.numel() for p in model.parameters())
learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
title = f"{config.base}, fine-tuned on ARC" if config.base else f"GridLM {config.preset}"
print(f"{title}: {parameters / 1e6:.2f} M parameters, {learned / 1e6:.2f} M are trained")

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
picture = plot.plot_tokens(document.input_ids, document.labels, spelling.symbol)
run.log.figure(picture, "document")
picture

# %% [markdown]
# Others to step through. The strip is the whole document, the table a part of it.

# %%
drawn = [mixture.document(i) for i in range(12)]
names = [f"{i}: {name}" for i, (name, _) in enumerate(drawn)]
plot.explore_tokens([document for _, document in drawn], spelling.symbol, names=names)

# %% [markdown]
# **Gotcha.** A scaled-up task, or one with a margin around every grid, is still a task: the rule is carried along, as
# by a rotation. But only *some* grids are scaled-up grids, so an answer cannot always be carried back. That is why
# `enlarge_share` makes new pretraining documents and is never a view at test time.

# %%
from arc_helpers.pretrain.enlarge import Enlargement

larger = Enlargement(scale=2, top=1, left=1)
small = next(pair.input for _, pair in pairs if max(pair.input.shape) <= 8)
assert (larger.undo(larger.grid(small)) == small).all()
plot.plot_gallery([("as drawn", small), ("enlarged", larger.grid(small))])

# %% [markdown]
# ## 5 · Rows of tokens
#
# Documents have many lengths, and a device wants rectangles. Either each document gets a row and is padded (documents
# of like length together, so that little is wasted), or several are *packed* into one row. By hand, three documents of
# 4, 2 and 3 tokens in one row; a row of the picture is a token, a blue cell one that it sees:

# %%
from arc_helpers.lm.attention import packed_mask

start = own.start
row = torch.tensor([[start, 1, 2, 3, start, 4, start, 5, 6]])
sees = packed_mask(row, start)[0, 0]  # [9, 9], True where the token of this row sees that of this column
assert sees.sum() == (4 * 5 + 2 * 3 + 3 * 4) / 2  # three triangles, and nothing between them
plot.plot_gallery([("who sees whom", sees.numpy().astype(np.int8))])

# %% [markdown]
# So a document in company reads as it does alone. Positions begin anew in each, too. (A fine-tuned base is told by
# them where a document begins.)

# %%
twice = torch.tensor([ids + ids])  # [1, 2T]
with torch.no_grad():
    first, second = gridlm(twice, attention_mask=packed_mask(twice, start)).logits[0].chunk(2)  # [T, 16] each
    _, leaking = gridlm(twice).logits[0].chunk(2)
print(f"with the mask {(first - second).abs().max():.1e} apart, without it {(first - leaking).abs().max():.1e}")
assert (first - second).abs().max() <= runs.tolerance("float32") < (first - leaking).abs().max()

# %% [markdown]
# What each way makes of the same number of tokens. Padding is computed and thrown away:

# %%
rows = 4 * mixture.max_len
for kind, options in (("padded", {}), ("packed", {"row_tokens": mixture.max_len})):
    batch = next(mixture.batches(rows, **options))
    real = batch.tokens / batch.input_ids.size
    print(f"{kind}: {len(batch.lengths)} documents in {batch.input_ids.shape}, {real:.0%} real tokens")

# %% [markdown]
# ## 6 · Training
#
# Muon for the matrices, AdamW for the rest; averaged weights (EMA) for everything that is reported or saved. (A LoRA is
# trained by AdamW alone, and not averaged.) The run's length is a number of steps, a wall-clock budget, or whichever ends first:
# nine tenths of what `deadline_seconds` leaves are for training, the rest for section 7 and 8.

# %%
settings = pretrain.settings_from(config, run.seed, run.deadline.part(pretrain.TRAINING))
shares = [i / 100 for i in range(101)]
length = settings.steps or 1000
rates = [
    pretrain.PretrainConfig(steps=length, warmup_steps=settings.warmup_steps).rate(int(p * length)) for p in shares
]
plot.plot_curve(shares, {"learning rate": rates}, "factor of the peak", xlabel="share of the run")

# %% [markdown]
# A curriculum may begin with small grids and short documents: a step of them costs the same and holds more rules.

# %%
began = 0.0
for until, stage in curriculum.stages:
    print(f"{began:4.0%} to {until:4.0%} of the run: sides up to {stage.max_side}, up to {stage.max_len} tokens")
    began = until

# %% [markdown]
# What we watch beside the loss is a set of labelled tasks that are neither trained on nor scored: those of ARC-AGI-2
# training which ARC-AGI-1 does not have.

# %%
watched = pretrain.held_out_tasks(min(10, config.max_side))
checkpoint = run.out_dir / "checkpoint.pt"

# %% [markdown]
# The curve grows while the model trains (in a headless run it is there at the end, and lines are printed instead).

# %%
from IPython.display import display


def curve(history):
    steps = [m["step"] for m in history]
    series = {"training": [m["loss"] for m in history]}
    series["held out"] = [m.get("held_out_loss", float("nan")) for m in history]
    return plot.plot_curve(steps, series, "nats a token")


def report(metrics):
    run.log.metric(**metrics)
    shown = ("step", "loss", "tokens_per_second", "mfu", "held_out_loss")
    print("  ".join(f"{name} {metrics[name]:.4g}" for name in shown if name in metrics))
    if metrics["step"] % settings.evaluate_every == 0:
        live.update(curve(trainer.history))

# %% [markdown]
# Now the training. ■ in the toolbar stops it; this notebook, run again from its top, goes on from the last checkpoint.

# %%
watch = (watched, spelling, max_len, run.deadline)
evaluate = lambda averaged: pretrain.held_out_score(averaged, *watch)  # noqa: E731
trainer = pretrain.Pretrainer(model, curriculum, settings, checkpoint, report, evaluate)
for metrics in trainer.history:  # of the run's earlier parts
    run.log.metric(**metrics)
print(f"starts at step {trainer.step}", *trainer.notes, sep="\n")
live = display(curve(trainer.history), display_id=True)
result = trainer.run()

# %% [markdown]
# The whole curve, and what the device has done: *MFU* is the share of its peak that went into the model.

# %%
picture = curve(trainer.history)
live.update(picture)
run.log.figure(picture, "loss")
speed = f"{result['tokens'] / result['seconds']:,.0f} tokens/s, {result['flops']:.1e} FLOPs"
print(speed, f"{result['mfu']:.1%} of the peak" if "mfu" in result else "(this device's peak is not known: no MFU)")

# %% [markdown]
# ## 7 · What it can do
#
# Greedy answers to tasks it never saw, without any test-time training. *Exact* means every cell.

# %%
low, high = arc.wilson_interval(result["held_out_exact"], result["held_out_tasks"])
print(
    f"exact: {result['held_out_exact']} of {result['held_out_tasks']} (95 % interval {low:.3f} to {high:.3f}), "
    f"{result['held_out_loss']:.3f} nats a token; guessing evenly would be 2.485"
)

# %% [markdown]
# ## 8 · Saved, with a card
#
# An ordinary Hugging Face folder: config, tokenizer, safetensors in half precision, and a card that says what went
# in. Of a fine-tuned base it is a PEFT adapter with its prompt form, for the whole of the base.

# %%
card = pretrain.card_of(title, trainer, result, left_out)
folder = pretrain.save_trained(trainer, run.model_path, card, config.merge)
loaded = lm.load_causal_lm(folder, quantization=config.quantization if config.base else "none", trim_vocab=True)
print(card[card.index("## Training and scores") :])
print(f"{sum(f.stat().st_size for f in folder.iterdir()) / 2**20:.1f} MB in {folder}")

# %% [markdown]
# Loaded again, it answers as before:

# %%
ids = torch.from_numpy(document.input_ids)[None].to(model.device)
with torch.no_grad():
    difference = (trainer.averaged.eval()(ids).logits - loaded.model(ids).logits).abs().max().item()
assert difference < (0.1 if loaded.dtype == torch.float32 else 1), "the saved model must answer like the trained one"
print(f"largest difference of a logit after saving: {difference:.4f}")

# %% [markdown]
# ## Results

# %%
summary = run.log.close(
    preset=config.base or config.preset,
    parameters=parameters,
    steps=result["step"],
    tokens=result["tokens"],
    tokens_per_second=round(result["tokens"] / result["seconds"]),
    mfu=result.get("mfu"),
    flops=result["flops"],
    loss=round(result["loss"], 4),
    held_out_loss=round(result["held_out_loss"], 4),
    held_out_exact=result["held_out_exact"],
    held_out_tasks=result["held_out_tasks"],
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
# - `pack=true`, or `curriculum="0.5:8:512"`, in another `out_dir`: a run goes on only with the settings it began with.
# - A GPU, or several: `torchrun --nproc-per-node 2 -m arc_helpers.pretrain.base_run profile=gpu out_dir=artifacts/base` does
#   what this notebook does; the profile `gpu` packs, compiles and grows the context.
# - `python -m arc_helpers run 02 --model_dir artifacts/00_base_model/model`: test-time training on your own base.
# - `base="models/smollm2-135m"` in another `out_dir`, then 02 with `model_dir` = the folder of section 8.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. One pair is enough.** A guard that compares ids lets a task through that was published twice. Which training tasks
# of ARC-AGI-1 share a *pair* with its evaluation set, and how many?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
asked = {pair for task in arc.load_tasks("arcagi1/evaluation") for pair in (*task.train, *task.test)}
shared = {task.id: len(asked & {*task.train, *task.test}) for task in arc.load_tasks("arcagi1/training")}
shared = {name: count for name, count in shared.items() if count}
print(shared)
assert list(shared.values()) == [3], "the Gotcha of section 1"

# %% [markdown] tags=["exercise"]
# **2. Does it learn in context?** If it reads the demonstrations, a second one must make the answer likelier than the first
# alone did. Ask the saved model about the same tasks with one, two and three of them. What would a model say that
# only knows what grids look like?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
three = [task for task in watched if len(task.train) >= 3][:16]
for shown in (1, 2, 3):
    fewer = [lm.encode(arc.Task(t.id, t.train[:shown], t.test[:1]), loaded.prompt_form, max_len=max_len) for t in three]
    nll = [-lm.answer_logprobs(loaded, one).mean() for one in fewer]
    print(f"{shown} shown: {np.mean(nll):.3f} nats a token, over {len(fewer)} tasks")
# One that only knows grids says the same number three times.

# %% [markdown] tags=["exercise"]
# **3. From nats to solved tasks.** *Exact* needs every token to be right. If all tokens were as likely as the mean of section 7
# says, how often would a 10 × 10 answer be right? How many nats a token may it have, to be right every second time?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
tokens = spelling.output_length((10, 10))
nats = result["held_out_loss"]
print(f"{tokens} tokens at {nats:.3f} nats: right {np.exp(-tokens * nats):.2g} of the time")
print(f"every second time: {np.log(2) / tokens:.4f} nats a token")
# More are solved than this says: easy tasks have nearly all their tokens near 0 nats, hard ones lift the mean.
