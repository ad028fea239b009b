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
# # 03 · Tiny Recursive Model
#
# > A network of two layers that is applied to its own thoughts until it is content: trained here from nothing, with a
# > control beside it that says what recursion is worth.
#
# When you have run this notebook you know
#
# - how a grid becomes a canvas of 12 tokens, and what a compact canvas saves;
# - what a cycle, a segment and a halt are, seen as pictures on one puzzle;
# - what recursion is worth against a single pass with the same parameters, data and time;
# - how TRM answers ARC tasks, why it cannot answer one it was not trained on, and what that means for a score.
#
# **Time** (profile `laptop`): an estimated 9 minutes, 10 at most, on two CPU cores as on a T4 or an H200: most of it is training with
# a budget of time, in which a GPU makes more steps. `tiny` is over in half a minute and learns nothing worth a look: it
# tests the machinery.
#
# The published model reached 44.6 % on ARC-AGI-1 with about $1.6 \cdot 10^{20}$ operations: days on several data-centre
# GPUs. That is out of reach here by five orders of magnitude, so this notebook shows what holds at any size.

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
data: str = None  # built data folder, in the published layout or ours (trm build-data); empty = built from source
checkpoint: str = None  # a trained TRM to answer with: step_N as published, a model folder; empty = train one
deadline_seconds: float = None  # wall-clock budget of this run; 0 = no limit
views: int = None  # augmented views that vote
segments: int = None  # segments of an answer; 0 = as many as in training

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of weights, puzzles and augmentations
out_dir: str = None  # folder for what this run writes (default artifacts/03_trm_pretrain)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it
source: str = None  # a set such as arcagi1, or a folder, that has the subsets
subsets: str = None  # what to learn from, separated by commas; concept = ConceptARC
test_set_name: str = None  # the subset that is answered; of it only demonstrations are learned
num_aug: int = None  # listed augmentations a task, for conditioning by identifier
max_side: int = None  # tasks with a larger grid are left out, and listed
layout: str = None  # canvases: official (30 × 30), buckets (squares) or tight
augment: str = None  # symmetries, colors (both) or listed
translate: float = None  # share of the training examples that is moved to a random place of its canvas
conditioning: str = None  # shared task vectors, or one identifier an augmentation (as published)
preset: str = None  # tiny, small or compact: the model for ARC; published: with the whole published recipe
hidden_size: int = None  # width of the model for ARC; 0 = the preset's
H_cycles: int = None  # cycles of a segment; 0 = the preset's
L_cycles: int = None  # updates of the scratch pad a cycle; 0 = the preset's
halt_max_steps: int = None  # most segments of an example; 0 = the preset's
halt_exploration: float = None  # probability that an example must have a drawn number of segments
optimizer: str = None  # muon, adamw or adam_atan2
tables_by: str = None  # adam, or signsgd as published: the optimizer of the task vectors
lr: float = None  # learning rate of embedding and heads
lr_matrices: float = None  # learning rate of the matrices, with muon
lr_tasks: float = None  # learning rate of the task vectors
weight_decay: float = None  # weight decay of the network
weight_decay_tasks: float = None  # weight decay of the task vectors
warmup_steps: int = None  # steps of linear warm-up, before the cosine
min_lr_ratio: float = None  # where the cosine ends, as a share of the learning rate; 1 = constant
max_grad_norm: float = None  # longest gradient; 0 = no clipping
ema_decay: float = None  # decay of the averaged weights
batch_tokens: int = None  # positions a training step
micro_tokens: int = None  # positions that go through the model at once, gradients summed; 0 = all of a step's
autocast: bool = None  # bfloat16 products, where the device has them; float16 with a loss scale on a GPU without
compile: bool = None  # torch.compile of the blocks
max_steps: int = None  # training steps on ARC; 0 = no limit
epochs: float = None  # passes over all pairs; 0 = no limit
keep_every: int = None  # steps after which a checkpoint is kept, as checkpoint_step_5000.pt; 0 = the last one only
sudoku_seconds: float = None  # training time of each of the two Sudoku models, at most
sudoku_puzzles: int = None  # Sudoku puzzles to learn from, before augmentation
wandb: str = None  # Weights & Biases: disabled, offline or online
out_model: str = None  # folder the ARC model is written to (default: model/ in out_dir)

# %% [markdown]
# ## Setup

# %%
import numpy as np
import torch

from arc_helpers import arc, play, plot, runs, trm
from arc_helpers.plot import trm as pictures

run = runs.start_notebook("03_trm_pretrain", globals())
config, device = run.config, run.device.device
autocast = run.device.dtype != "float32"
sudoku = {}  # what section 4 finds

# %% [markdown]
# ## 1 · A grid on a canvas
#
# TRM does not write token by token. It sees the input on a canvas and fills in the output, all cells at once, on the
# same canvas. Twelve tokens do: padding, ten colours, and an end-of-sequence token that runs along the right and lower
# edge of the grid. That border is the only way in which the model can say how large its answer is.
#
# By hand: a 2 × 3 grid on a canvas 5 cells wide.

# %% tags=["teaching"]
grid = np.array([[1, 1, 2], [0, 3, 3]])
tokens = trm.place(grid, trm.Canvas(width=5, cells=20))  # [20], uint8
print(tokens.reshape(4, 5))
assert np.array_equal(trm.read(tokens, width=5), grid), "what is placed can be read back"

# %% [markdown]
# The published canvas is 30 × 30 for everything, though most tasks are small. A canvas here may be of any width: its
# cells know their row and column (2-D rotary embedding), so one model works on all of them. Which canvas a question
# gets follows from the demonstrations and the question alone, never from the answer.

# %% tags=["teaching"]
example = arc.load_tasks("arcagi1/training")[0]
pair = example.train[0]
sheets = []
for kind in trm.LAYOUTS:
    canvas = trm.choose_canvas(kind, example.train, pair.input)
    for name, grid in (("input", pair.input), ("output", pair.output)):
        placed = trm.place(grid, canvas)[: canvas.height * canvas.width].reshape(canvas.height, canvas.width)
        sheets.append((f"{kind}\n{name}", placed))
picture = pictures.plot_canvases(sheets)
run.log.figure(picture, "canvases")
picture

# %% [markdown]
# **Gotcha.** The border needs room. Where a task's outputs are always as large as its inputs, the canvas ends where
# the grid ends, and no border is needed to know the size.
#
# ## 2 · The data set, and the guard
#
# TRM has no demonstrations in its input. All that it is told about a task is a vector that belongs to this task, and
# the vector has to be *trained*. So the demonstrations of the tasks to be answered are part of the training set:
# test-time training, built in from the start. Nothing else of these tasks is. A `Query` has no field for an answer,
# and a training task that shares an id or a pair with a scored one is left out.

# %%
options = {name: getattr(config, name) for name in ("test_set_name", "num_aug", "max_side")}
folder = runs.resolve_path(config.data) if config.data else run.out_dir / "dataset"
if config.data:
    dataset = trm.open_dataset(folder)
else:
    dataset = trm.build_arc_dataset(config.source, folder, config.subsets.split(","), seed=run.seed, **options)
demonstrations = sum(map(len, dataset.pairs.values()))
print(f"{len(dataset.task_ids)} tasks with {demonstrations} pairs; {len(dataset.queries)} queries of", end=" ")
print(f"{len(dataset.scored_ids)} tasks; {len(dataset.identifiers)} identifiers")
print(*[note for note in dataset.notes if "overlap" in note], sep="\n")

# %% [markdown]
# The guard compares ids *and* pairs. What it says when somebody trains on the tasks that are scored:

# %%
labelled = trm.scored_tasks(dataset, folder)
dataset.check_guard(labelled)
scored = all(task.has_answers for task in labelled)  # hidden tasks have none: then nothing is scored
if scored:
    cheat = dataset.pairs | {labelled[0].id: [*labelled[0].train, labelled[0].test[0]]}
    try:
        trm.ArcDataset(dataset.options, cheat, dataset.queries, dataset.transforms).check_guard(labelled)
        raise AssertionError("a test pair in the training set must be noticed")
    except arc.SplitError as error:
        print("refused:", error)

# %% [markdown]
# Augmentations are 8 symmetries times permutations of the colours; each one's name is enough to undo it. A few drawn
# examples, each question followed by its answer:

# %%
opened = trm.open_trm(config.checkpoint, dataset) if config.checkpoint else None
layout = opened.layout if opened else config.layout
examples = trm.ArcSource(dataset, layout, config.augment, config.translate)
cells = max(examples.shares, key=examples.shares.get)
batch = examples.draw(cells, 6, torch.Generator().manual_seed(run.seed))
drawn = []
for i in range(6):
    width = int(batch.width[i])
    for name, sheet in (("question", batch.cells[i]), ("answer", batch.labels[i])):
        drawn.append((f"{dataset.task_ids[batch.task[i] - 1]} {name}", trm.read(sheet.numpy(), width)))
picture = plot.plot_gallery(drawn)
run.log.figure(picture, "examples")
picture

# %% [markdown]
# What a compact canvas saves, on these tasks:

# %% tags=["teaching"]
saved = {kind: trm.ArcSource(dataset, kind) for kind in trm.LAYOUTS}
for kind, made in saved.items():
    mean = made.tokens / made.pairs
    print(f"{kind:>8}: {mean:6.1f} tokens a pair, {900 / mean:4.1f} times fewer than 30 × 30")
    assert not made.too_large, "a pair that fits no canvas is listed, never cropped"
assert saved["tight"].tokens <= saved["buckets"].tokens <= saved["official"].tokens

# %% [markdown]
# ## 3 · The model
#
# Two latents lie on the canvas, a vector a cell each: $z_H$, from which the answer is read, and $z_L$, the scratch
# pad. One network $f$ of two layers does everything:
#
# $$z_L \leftarrow f(z_L + z_H + x) \quad (L \text{ times}), \qquad z_H \leftarrow f(z_H + z_L)$$
#
# That is a *cycle*; `H_cycles` of them are a *segment*. After each segment there is an answer, a loss and a step of
# training, and the latents go on to the next segment without their history. A halting head learns to say "this is
# right"; in training the row is then given to another question.

# %%
torch.manual_seed(run.seed)
rows = 1 + len(dataset.task_ids) if config.conditioning == "shared" else dataset.identifier_rows
names = ("hidden_size", "H_cycles", "L_cycles", "halt_max_steps", "halt_exploration")
named = {name: getattr(config, name) for name in names}
named |= {"conditioning": config.conditioning, "conditioned_rows": rows}
shape = trm.TRMConfig.preset(config.preset, **{name: value for name, value in named.items() if value is not None})
model = (opened.model if opened else trm.TRM(shape)).to(device)
parameters = trm.count_parameters(model)
flops = trm.segment_flops(model.config, cells)
published = trm.segment_flops(trm.TRMConfig(), 900)
print(f"network {parameters['network']:,} + task vectors {parameters['conditioning']:,} parameters")
print(f"a training segment on {cells} cells: {flops / 1e9:.3f} GFLOP; published, on 900: {published / 1e9:.0f}")
assert flops < published

# %% [markdown]
# **Gotcha.** "7 million parameters" leaves out the table of task vectors. The published one has a vector for each of
# nearly a million augmented tasks: about 450 million numbers. Shared vectors, one a task, bring that down to what is
# printed above.
#
# **Gotcha.** The published model computes all cycles of a segment but the last *without* gradient. Whatever one hands
# it as a start of $z_H$ and $z_L$ is then never learned from. Here that is an error, not a surprise:

# %% tags=["teaching"]
published_model = trm.TRM(trm.TRMConfig.preset("published", hidden_size=64, width_multiple=32))
try:
    published_model.start(rows=1, cells=9, z_H=torch.zeros(1, 25, 64))
    raise AssertionError("a start that cannot learn must be refused")
except ValueError as error:
    print("refused:", error)

# %% [markdown]
# ## 4 · Is it recursion that helps?
#
# A clean test needs a puzzle that takes several steps of thought, and an honest control. The puzzle: 6 × 6 Sudoku from
# our own generator, 12 given digits, one solution each. No solution is both trained on and tested, whatever its
# digits are called, augmented or not.

# %% tags=["teaching"]
puzzles = trm.make_sudoku(config.sudoku_puzzles, 500 if profile != "tiny" else 50, seed=run.seed)
test = trm.as_batch(puzzles.test).to(device)
named = [(name, grid) for p in puzzles.test[:3] for name, grid in (("puzzle", p.input), ("solution", p.output))]
picture = plot.plot_gallery(named, digits=True, scale=1.0)
run.log.figure(picture, "sudoku")
picture

# %% [markdown]
# The control: the same network with the same number of parameters, but one cycle of one update and one segment. It
# gets the same puzzles and the same *time*, in which it makes more steps, for they are cheaper. Both together may take
# a third of what the run has.
#
# What comes out depends on that time. At half a core-minute the single pass is ahead, for its steps are cheaper; with one
# or two recursion solves far more; with fourteen the single pass has nearly caught up (`make bench NAME=trm_sudoku`, and
# `P="--core_minutes 14"`). So recursion *learns faster* here, once it has begun. That nothing else would get there in the
# end is not shown. On small ARC tasks, in less than a minute each, the single pass solves most of five ways to train (`make
# bench NAME=trm_arms`).

# %% tags=["teaching"]
each = min(config.sudoku_seconds, run.deadline.part(1 / 6) or config.sudoku_seconds)


def train_sudoku(shape):
    torch.manual_seed(run.seed)
    settings = trm.TrainConfig(
        steps=None, seconds=each, batch_tokens=64 * 39, ema_decay=0.99, autocast=autocast, log_every=50
    )
    curve = []
    trainer = trm.Trainer(trm.TRM(shape).to(device), trm.SudokuSource(puzzles), settings, on_metrics=curve.append)
    trainer.run()
    print(f"{trainer.step} steps in {trainer.seconds:.0f} s")
    return trainer.averaged.eval(), curve


# %% [markdown]
# First the recursive one, then the control. The weights used from here on are running averages (EMA) of the trained
# ones.

# %% tags=["teaching"]
recursion = trm.TRMConfig.preset("sudoku")
solver, curve = train_sudoku(recursion)
single, single_curve = train_sudoku(recursion.single_pass())
assert trm.count_parameters(solver) == trm.count_parameters(single)

# %% [markdown]
# The share of test puzzles solved, every cell right. The recursive model answers after each of its segments, so it
# has a curve; the control has one chance.

# %% tags=["teaching"]
after = trm.solved_after_segments(solver, test, recursion.halt_max_steps)
control = trm.solved_after_segments(single, test, 1)[-1]
n = len(test)
shares = {"after the last segment": after[-1], "after the first": after[0], "single pass": control}
intervals = {name: arc.wilson_interval(round(share * n), n) for name, share in shares.items()}
for name, share in shares.items():
    print(f"{name}: {share:.1%} of {n} (95 % interval {intervals[name][0]:.3f} to {intervals[name][1]:.3f})")
picture = pictures.plot_bars(shares, "puzzles solved", intervals)
run.log.figure(picture, "recursion")
sudoku = {"sudoku_exact": after[-1], "sudoku_first_segment": after[0], "sudoku_single_pass": control, "sudoku_n": n}
sudoku["sudoku_points"] = round(100 * (after[-1] - control), 1)
picture

# %% [markdown]
# The two losses are not comparable number by number: the recursive model's is a mean over early and late segments.
# What both show is whether training had ended.

# %% tags=["teaching"]
names = {"recursive": curve, "single pass": single_curve}
longest = max(names.values(), key=len)
series = {name: [m["cell_loss"] for m in c] + [np.nan] * (len(longest) - len(c)) for name, c in names.items()}
picture = plot.plot_curve([m["step"] for m in longest], series, "nats a cell", title="Sudoku, training")
run.log.figure(picture, "sudoku_loss")
picture

# %% [markdown]
# ## 5 · One puzzle, thought by thought
#
# We take the test puzzle that needs the most segments of those that are solved, and look at the answer after each one.
# Outlined cells are wrong. Above each stands what the halting head says: its probability that this answer is right.

# %% tags=["teaching"]
states, answers, sure = [], [], []
carry = solver.start(n, 36)
with torch.no_grad():
    for _ in range(recursion.halt_max_steps):
        carry, logits, halt = solver(carry, test)
        states.append((carry.z_H, carry.z_L))  # [n, 3 + 36, D] each
        answers.append(logits.argmax(-1))  # [n, 36]
        sure.append(halt.sigmoid())
right = torch.stack([(a == test.labels).all(1) for a in answers])  # [segments, n]
needed = torch.where(right[-1], (~right).sum(0), -1)
chosen = int(needed.argmax())

# %% [markdown]
# The puzzle on the left, the solution on the right, and the answers in between:

# %% tags=["teaching"]
after_each = [trm.read(a[chosen].cpu().numpy(), 6) for a in answers]
truth = puzzles.test[chosen].output
picture = pictures.plot_segments(
    puzzles.test[chosen].input, after_each, [float(s[chosen]) for s in sure], truth, digits=True
)
run.log.figure(picture, "thoughts")
picture

# %% [markdown]
# The latents behind it, three principal components of each cell as red, green and blue. Where does the picture stop to
# change, and do cells with the same digit end in the same colour?

# %% tags=["teaching"]
latents = {
    name: np.stack([s[which][chosen, 3:].cpu().float().numpy() for s in states])
    for which, name in enumerate(("z_H", "z_L"))
}
picture = pictures.plot_latents(latents, (6, 6))
run.log.figure(picture, "latents")
picture

# %% [markdown]
# The same, one segment at a time. Move the slider and watch the last cells fall into place:

# %% tags=["teaching"]
sequence = [float(s[chosen]) for s in sure]
plot.explore_segments(puzzles.test[chosen].input, after_each, sequence, latents["z_H"], truth)

# %% [markdown]
# How often the halting head is right about itself, over all test puzzles:

# %% tags=["teaching"]
halted_right = float(((sure[-1] > 0.5) == right[-1]).float().mean())
print(f"the halting head is right about {halted_right:.1%} of the {n} answers")
assert 0 <= halted_right <= 1

# %% [markdown]
# ## 6 · ARC
#
# The same model on small ARC tasks. Each row of the batch works on one example until it halts or has had all its
# segments, and only then is it given the next: no example that was drawn is thrown away. The run is a function of its
# settings and seed, it writes a checkpoint, and the same command goes on from there. With `checkpoint` a trained TRM
# answers instead: one of ours, or a published `step_N` with the data folder that belongs to it (`data`).

# %%
passes = config.epochs and examples.steps_of(config.epochs, shape.prefix_len, config.batch_tokens)
knobs = {name: value for name, value in config if name in trm.TrainConfig.__dataclass_fields__}
length = {
    "steps": min(filter(None, (config.max_steps, passes)), default=None),
    "seconds": run.deadline.part(0.8),  # the rest is for the answers
}
settings = trm.TrainConfig(**{**knobs, **length, "autocast": autocast, "seed": run.seed, "log_every": 20})

# %% [markdown]
# The curve below is drawn again as the training goes on. The same numbers go to `metrics.jsonl`, and to Weights &
# Biases where it is installed (offline, unless you say otherwise).

# %%
from IPython.display import display

tracker = runs.open_mirror(run.out_dir, {"notebook": "trm-pretrain", **config.model_dump()}, config.wandb)
history, live = [], display(display_id=True)


def report(metrics):
    history.append(metrics)
    run.log.metric(**metrics)
    tracker.log(metrics)
    series = {name: [m[name] for m in history] for name in ("exact_at_halt", "exact")}
    live.update(plot.plot_curve([m["step"] for m in history], series, "share of rows right"))


# %% [markdown]
# Before the first update, the trainer checks that a finite gradient other than zero has reached every parameter.

# %%
if opened:
    averaged, result = model.eval(), {"step": 0, "seconds": 0.0}
    print(f"{opened.name} answers as it is", *opened.notes, sep="\n")
else:
    trainer = trm.Trainer(model, examples, settings, run.out_dir / "checkpoint.pt", report)
    print(f"starts at step {trainer.step}")
    averaged, result = trainer.averaged, trainer.run()
    print({name: round(result[name], 3) for name in ("step", "examples", "cell_loss", "exact_at_halt", "segments")})

# %% [markdown]
# *exact at halt*: of the rows that were done with their example, how many had it right. *segments*: how many they
# took on average. Where a task is fitted, the model says so after its first segment, and spends the time on others.

# %%
known = history or [{"step": 0, "exact_at_halt": np.nan, "cell_loss": np.nan}]  # nothing was trained
series = {"exact at halt": "exact_at_halt", "loss (nats a cell)": "cell_loss"}
picture = plot.plot_curve(
    [m["step"] for m in known], {name: [m[key] for m in known] for name, key in series.items()}, "share, nats"
)
run.log.figure(picture, "training")
picture

# %% [markdown]
# ## 7 · Answers
#
# Every query in several views; the answers are turned back and counted. Most votes win, and the halting head breaks
# ties. Two attempts go into `submission.json`, which is valid from the first second.

# %%
colors = opened.colors if opened else config.augment == "colors"
views = config.views if colors or model.config.conditioning == "identifier" else min(config.views, 8)
how = {"layout": layout, "views": views, "segments": config.segments, "colors": colors}
how["deadline"] = run.deadline  # what has been answered until then votes
predictions = trm.predict(averaged, dataset, every_segment=True, **how)
trm.save_predictions(run.out_dir / "predictions.jsonl", predictions)
votes = trm.vote(predictions)
asked = [task.without_answers() for task in labelled]
writer = arc.SubmissionWriter(run.submission_path, arc.num_tests_of(asked))
print(f"{trm.write_votes(writer, votes, asked)} of {len(asked)} tasks have an answer")
assert arc.validate_submission(writer.path, arc.num_tests_of(asked)) == []

# %% [markdown]
# Scoring is a step of its own, over the saved file. Beside the score stands a control that shows where the knowledge
# sits: the same model, the same questions, but the *blank* task vector. Published TRM gets exactly 0 % without its
# identifiers; it does not look at a task and understand it, it has learned this one.

# %%
numbers = {}
if scored:
    blank = trm.vote(trm.predict(averaged, dataset, blank=True, **how))
    score = arc.score_submission(writer.path, labelled)
    table = trm.score_votes(votes, labelled)
    without = None if run.deadline.passed else trm.score_votes(blank, labelled, (2,))[0].tasks_solved
    for at in table:
        print(f"pass@{at.k:<4} {at.tasks_solved:5.1f} of {at.n_tasks} tasks, {at.outputs_solved} outputs")
    print(f"95 % interval of pass@2: {score.ci_low:.3f} to {score.ci_high:.3f}; blank task: {without}")
    assert score.task_score == table[1].task_score, "the submission is pass@2"
    numbers = {**score.summary(), "pass1_tasks": table[0].tasks_solved, "blank_tasks": without}

# %% [markdown]
# The recursion curve of ARC: single views that are right after each segment. Others have found with the published
# model that most is reached in the first one.

# %%
curve = trm.score_segments(predictions, labelled) if scored else {1: 0.0}
picture = plot.plot_curve(list(curve), {"right": list(curve.values())}, "single views right", "segment")
run.log.figure(picture, "segments")
picture

# %% [markdown]
# Predictions with wrong cells outlined. First come those that are right, then the nearest misses.

# %%
attempts = {
    task.id: [[entry["attempt_1"], entry["attempt_2"]] for entry in writer.read()[task.id]] for task in labelled
}
nearest = sorted(labelled, key=lambda task: arc.wrong_share(attempts[task.id], task)) if scored else labelled
shown = [(t.without_answers(), attempts[t.id], t.answers() if scored else None) for t in nearest]
for task, answered, truth in shown[:4]:
    run.log.figure(plot.plot_prediction(task, answered, truth), f"prediction_{arc.safe_name(task.id)}")
plot.plot_prediction(*shown[0])

# %% [markdown]
# The others, to play with: solve one yourself, then *Show answers*.

# %%
play.open_playground(nearest, {"TRM": attempts})

# %% [markdown]
# ## 8 · Saved
#
# The folder remembers which data set its task vectors belong to, and works with no other. A task it has no vector for
# is refused in one line:

# %%
how_trained = {"steps": result["step"], "layout": layout, "augment": "colors" if colors else config.augment}
saved_to = trm.save_trm(averaged, run.model_path, dataset, **how_trained)
loaded = trm.load_trm(saved_to, dataset)
trained = averaged.state_dict()
assert all(torch.equal(tensor, trained[name].cpu()) for name, tensor in loaded.state_dict().items())
stranger = trm.Query("deadbeef", 0, np.ones((2, 3), int))
try:
    trm.predict(loaded, dataset, queries=[stranger])
    raise AssertionError("an unknown task must be refused")
except trm.DatasetError as error:
    print("refused:", error)

# %% [markdown]
# ## Results

# %%
summary = run.log.close(
    preset=config.preset,
    **parameters,
    **sudoku,
    steps=result["step"],
    **{name: round(result[name], 4) for name in ("exact_at_halt",) if name in result},
    valid=True,
    **numbers,
    views=views,
    training_seconds=round(result["seconds"], 1),
    model=str(saved_to),
)
tracker.close(summary)
summary

# %% [markdown]
# ## What to try next
#
# - `sudoku_seconds=420`: does the single pass catch up, given time?
# - `conditioning="identifier" augment="listed" num_aug=50`: the published conditioning, one vector an augmentation.
# - `preset="published" micro_tokens=65536`: the published model and all of its recipe, every value of it a parameter.
# - `layout="official"`: the same tasks on 900 cells; compare `segments_per_second` in `metrics.jsonl`.
# - `checkpoint=step_518071 data=data/arc1concept-aug-1000`: a published checkpoint with its data folder; without the
#   notebook, `python -m arc_helpers trm eval CHECKPOINT DATA`.
# - The same command again with a larger `deadline_seconds`: it goes on from the checkpoint.
# - `torchrun --nproc-per-node 8 benchmarks/trm_small_arc.py --preset gpu`: tasks up to 16 × 16 on GPUs.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. Which latent holds the thought?** Between two segments throw $z_L$ away, then $z_H$, and put the start in its place. Which of the
# two can the solver do without?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
from dataclasses import replace

few = trm.as_batch(puzzles.test[:100]).to(device)
for forgotten in ("nothing", "z_L", "z_H"):
    carry = start = solver.start(len(few), 36)
    with torch.no_grad():
        for _ in range(recursion.halt_max_steps):
            carry, logits, _ = solver(carry, few)
            carry = replace(carry, **{name: getattr(start, name) for name in {forgotten} - {"nothing"}})
    print(f"{forgotten} forgotten: {(logits.argmax(-1) == few.labels).all(1).float().mean():.0%} solved")

# %% [markdown] tags=["exercise"]
# **2. Does it know when it knows?** Sort the Sudoku answers by what the halting head says. Of those with a probability around
# 0.9, are nine in ten right?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
said, was_right = sure[-1].cpu().float().numpy(), right[-1].cpu().numpy()
for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1)):
    inside = (said >= low) & (said <= high)
    mean = f"{said[inside].mean():.2f} said, {was_right[inside].mean():.2f} right" if inside.any() else "none"
    print(f"{low} to {high}: {inside.sum()} answers, {mean}")

# %% [markdown] tags=["exercise"]
# **3. How deep is it, unrolled?** Two layers, applied again and again: how many layers deep is an answer after the last segment?
# And what does a second cycle cost in training, where only the last one has a gradient?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
updates = recursion.H_cycles * (recursion.L_cycles + 1)
print(f"{recursion.num_layers * updates * recursion.halt_max_steps} layers, of {recursion.num_layers} with weights")
costs = [trm.segment_flops(replace(recursion, H_cycles=cycles, full_gradient=False), 36) for cycles in (1, 2, 3)]
print("1, 2, 3 cycles:", [f"{cost / costs[0]:.2f}" for cost in costs])
assert costs[1] - costs[0] == costs[2] - costs[1] < costs[0] / 2  # a forward costs a third of forward and backward
