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
# # 04 · A language model and TRM, joined
#
# > One reads, the other thinks on the canvas, and two thin adapters carry what one knows to the other. Does it help?
# > Here that is a question with controls, not a promise.
#
# When you have run this notebook you know
#
# - how a frozen language model's states become TRM's prefix, and why not the start of its latents;
# - which numbers learn, which do not, and how to see that a gradient really arrives;
# - whether what was read can replace a task's identity, which TRM alone cannot do without;
# - what self-correction without labels is worth against simply asking several times;
# - what TRM adds where a language model drafts the answers to ARC tasks, and TRM mends and weighs them.
#
# **Time** (profile `laptop`): 6.5 minutes on one CPU core, measured beside other work. On a T4 or an H200 half of that, an
# estimate: the models are too small to fill a GPU.

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
model_dir: str = None  # Hugging Face folder of the language model that reads: ours, a Llama, a Qwen2
tasks: int = None  # tasks to learn from
epochs: float = None  # passes over the training questions, of every arm
deadline_seconds: float = None  # wall-clock budget of this run; 0 = no limit
max_attempts: int = None  # attempts at a question, and views to compare them with

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of weights, tasks and order
out_dir: str = None  # folder for what this run writes (default artifacts/04_hybrid_joint)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it
data_dir: str = None  # ARC tasks to answer: a set's name, a folder, a challenges file
max_side: int = None  # tasks with larger grids keep the fallback, in cells
max_tasks: int = None  # most ARC tasks to answer; 0 = all
drafter_dir: str = None  # folder of the language model that drafts; empty = the one that reads
draft_seconds: float = None  # time that a GridLM learns before it drafts, twice; 0 = as it is
mend_seconds: float = None  # training time of the TRM that mends drafts
quantization: str = None  # none or 4bit
frozen: bool = None  # leave the language model as it is; false trains a LoRA beside it
lora_r: int = None  # rank of that LoRA
gradient_checkpointing: bool = None  # compute the language model's layers again, to save memory
trm_checkpoint: str = None  # a TRM pretrained by notebook 03, folder or checkpoint_step_N.pt; empty = a fresh one
hidden_size: int = None  # width of TRM
halt_max_steps: int = None  # most segments of an attempt
mode: str = None  # where the text enters TRM: prefix, carry (its start) or both
side: int = None  # side of the canvas and of the tasks, in cells
asked: int = None  # questions of each test set
batch_size: int = None  # questions a training step
lr: float = None  # learning rate of the adapters
keep_every: int = None  # steps after which a checkpoint is kept, as joint_step_5000.pt; 0 = the last one only
feedback_steps: int = None  # further steps of the joint model, with feedback on an attempt
cache_gib: float = None  # memory for states of prompts that are read again, in GiB
arms: str = None  # what the joint model is compared with, separated by commas; empty = nothing
wandb: str = None  # Weights & Biases: disabled, offline or online
out_model: str = None  # folder the joint model is written to (default: model/ in out_dir)

# %% [markdown]
# ## Setup

# %%
from dataclasses import replace

import numpy as np
import torch

from arc_helpers import arc, hybrid, lm, plot, runs, trm, ttt
from arc_helpers.plot import hybrid as pictures

run = runs.start_notebook("04_hybrid_joint", globals())
config, device = run.config, run.device.device
llm = lm.load_causal_lm(config.model_dir, quantization=config.quantization, device=device)
if not config.frozen:
    lm.add_lora(llm, config.lora_r, target_modules=["q_proj", "v_proj"])
if config.gradient_checkpointing:
    lm.checkpoint_layers(llm)
faults = []
every = arc.load_tasks(config.data_dir, faults=faults)
chosen = arc.choose_tasks(every, max_side=config.max_side, limit=config.max_tasks)
counts = arc.num_tests_of(every, faults)
writer = arc.SubmissionWriter(run.submission_path, counts)  # valid from now on

# %% [markdown]
# ## 1 · What TRM lacks
#
# TRM sees no demonstrations. All that it knows of a task is a vector that was trained for this task (notebook 03), and
# with a blank one it solves nothing. A language model does read demonstrations. Can its states take the vector's place?
#
# Rules that we know make this a clean question. Tasks are drawn from rule families; some families are learned, the
# others are held out, by a checksum of their names. Three sets are asked, from easy to hard: **seen**, new inputs of
# learned tasks; **variants**, new tasks of learned families, with other colours and directions; **unseen**, new families.

# %%
sets = hybrid.draw_rule_sets(run.seed, side=config.side, tasks=config.tasks, asked=config.asked)
print(f"learned families:  {', '.join(sets.learned)}\nheld-out families: {', '.join(sets.held_out)}")
print(f"{len(sets.train)} training questions of {sets.rows - 1} tasks; {len(sets.seen)} of each set are asked")
learned = {example.question.task_id for example in sets.train}
assert not learned & {example.question.task_id for example in (*sets.variants, *sets.unseen)}

# %% [markdown]
# One question of each set. A question has no field for its answer: an answer lives in an `Example`, for training and for
# scoring.

# %%
shown = {"seen": sets.seen[0], "variant": sets.variants[0], "unseen": sets.unseen[0]}
grids = []
for name, example in shown.items():
    for pair in example.question.demonstrations[:2]:
        grids += [(f"{name}: shown", pair.input), ("", pair.output)]
    grids += [(f"{name}: asked", example.question.input), ("answer", example.answer)]
picture = plot.plot_gallery(grids, scale=0.8)
run.log.figure(picture, "questions")
picture

# %% [markdown]
# ## 2 · What the language model reads
#
# The problem as text, with the history of attempts where there is one. The same parts become token ids: grids are
# joined ids, one a cell; words go through the tokenizer. The embedded model knows sixteen tokens and no words, so it gets
# the grids alone.

# %%
question = sets.variants[0].question
tried = hybrid.Attempt(number=1, grid=question.input, q=0.31, residual=0.2, segments=2)
text = hybrid.format_problem_text(question, [tried])
print(text[-120:])
ids = hybrid.encode_problem(llm, question, [tried])  # [T]
print(f"\n{len(ids)} tokens; words are {'read' if hybrid.has_words(llm) else 'left out: this model has none'}")

# %% [markdown]
# Of an attempt is told what can be known without the answer: its confidence, whether TRM's state still moves, and which
# cells it changed in the attempt before, in words and as a grid that marks them. What was *wrong* needs an answer, and is
# said of a *demonstration* alone that was held out from the prompt.

# %%
demonstration = question.demonstrations[0]
print(hybrid.grid_to_feedback(demonstration.input, demonstration))
try:
    hybrid.grid_to_feedback(question.input, arc.Pair(question.input))
    raise AssertionError("feedback on a test input must be refused")
except ValueError as error:
    print("refused:", error)

# %% [markdown]
# ## 3 · Thin adapters
#
# A dense map from one state of an 8 B model to one of TRM's latents has 1.9 billion parameters. A *resampler* needs 6
# million: learned queries attend to all states, and become TRM's prefix, the place where the task's vector was. In our
# ablation TRM alone sees the test input, and the prompt holds the demonstrations alone: whatever TRM knows of the rule
# has come over this bridge.

# %%
shape = hybrid.trm_shape(config.hidden_size, config.halt_max_steps)
if config.trm_checkpoint:
    shape = hybrid.load_pretrained(config.trm_checkpoint, config.hidden_size, config.side, config.halt_max_steps)
joined = hybrid.HybridConfig(
    canvas_side=config.side, mode=config.mode, max_attempts=config.max_attempts, show_question=False
)
model = hybrid.build_arm("joint", llm, shape, joined, sets.rows, run.seed, config.cache_gib).to(device)
parameters = model.parameter_table()
print(*(f"{name:>22}: {n:>13,}" for name, n in parameters.items()), sep="\n")
print(f"{'a dense map instead':>22}: {hybrid.naive_parameters(4096, 900, 512):>13,} for one latent of an 8 B model")

# %% [markdown]
# The loop with live shapes. Upper row: an attempt. Below: what TRM has thought becomes soft tokens, as large as the
# model's embeddings, in front of the next prompt.

# %%
batch_of = [example.question for example in sets.train[: config.batch_size]]
batch, states = hybrid.as_batch(batch_of, config.side).to(device), model.first_states(batch_of)
thought, (prefix, _) = model.think(batch, states), model.condition(batch, states)
soft = model.to_text(thought.latents)
shapes = {
    "states": states.hidden,
    "prefix": prefix,
    "tokens": thought.tokens,
    "z_H, z_L": thought.latents,
    "soft tokens": soft,
}
named = {name: str(list(tensor.shape)) for name, tensor in shapes.items()} | {"ids": str(list(states.mask.shape))}
boxes = {
    "text → latent": "to_latent",
    "latent → text": "to_text",
    "TRM": "trm",
    "language model": "frozen language model",
}
notes = {box: f"{parameters[part]:,}" for box, part in boxes.items()} | {"answer": f"{config.side}×{config.side} cells"}
picture = pictures.plot_loop(notes | {"prompt": "demonstrations,\nlater: attempts"}, named)
run.log.figure(picture, "loop")
picture

# %% [markdown]
# **Gotcha.** The obvious place for the text is the start of TRM's latents. In the published model that learns nothing:
# all cycles of a segment but the last run without gradient. It is refused here, at construction:

# %%
published = trm.TRMConfig(hidden_size=64, num_heads=2, H_cycles=3)
try:
    hybrid.TextToLatentAdapter(128, published, mode="carry")
    raise AssertionError("a start that cannot learn must be refused")
except ValueError as error:
    print("refused:", error)

# %% [markdown]
# ## 4 · Does the gradient arrive?
#
# Every gate of the bridge starts at zero, so that a pretrained TRM starts unchanged. The first step therefore moves the
# gates alone. For this report a copy has its gates opened, and makes one joint step of two attempts: the loss of the
# second goes back through the frozen language model into the thoughts of the first.

# %%
probe = hybrid.build_arm("joint", llm, shape, joined, sets.rows, run.seed).to(device)
with torch.no_grad():
    for gate in probe.to_latent.gates.values():
        gate.fill_(0.1)
before = hybrid.weights_hash(llm.model)
loss, _ = hybrid.JointTrainer(probe, sets.train, hybrid.JointConfig()).loss(sets.train[:4], attempts=2)
loss.backward()
trm.check_gradients(probe)  # raises where a trained parameter has none, zero, or one that is not finite
assert all(p.grad is None for p in probe.lm.model.parameters() if not p.requires_grad)

# %% [markdown]
# The norms by part. The language model is byte for byte what it was.

# %%
norms = {}
for name, parameter in probe.named_parameters():
    if parameter.requires_grad:
        part = ".".join(name.split(".")[:2])
        norms[part] = float(np.hypot(norms.get(part, 0.0), parameter.grad.norm().item()))
picture = pictures.plot_gradients(norms)
run.log.figure(picture, "gradients")
assert hybrid.weights_hash(llm.model) == before, "the language model must not change"
picture

# %% [markdown]
# ## 5 · Joint training
#
# The language model is frozen and the first prompt of a task never changes, so its states are computed once and kept.
# That makes training cheap: most steps do not touch the language model at all.

# %%
tracker = runs.open_mirror(run.out_dir, {"notebook": "hybrid-joint", **config.model_dump()}, config.wandb)
history = {}


def train(arm, model, settings, checkpoint=None):
    def report(metrics):
        history.setdefault(arm, []).append(metrics)
        run.log.metric(**metrics, arm=arm)
        tracker.log({f"{arm}/{name}": value for name, value in metrics.items()})

    result = hybrid.JointTrainer(model, sets.train, settings, checkpoint, report).run()
    history.setdefault(arm, [result])  # a run that was over before
    print(f"{arm:>10}: {result['step']} steps in {result['seconds']:.0f} s")
    return model


# %% [markdown]
# Every arm gets the same questions in the same order, and the same time where the run has a limit: six tenths of it are
# for training. A checkpoint is kept of each, and the same command goes on from it.

# %%
autocast = runs.has_bfloat16(device)
passes = len(sets.train) / config.batch_size
same = {"steps": max(1, round(config.epochs * passes)), "keep_every": config.keep_every, "seed": run.seed}
same |= {"batch_size": config.batch_size, "lr": config.lr}
rivals = [arm for arm in (config.arms or "").split(",") if arm]
each = run.deadline.part(0.6 / (len(rivals) + 2))  # seconds: of the joint model, each rival, and section 7
same |= {"seconds": each, "autocast": autocast, "max_attempts": 1, "log_every": 10}
kept = {arm: run.out_dir / "checkpoints" / f"{arm}.pt" for arm in (*hybrid.ARMS, "feedback", "mender")}
train("joint", model, hybrid.JointConfig(**same), kept["joint"])
assert hybrid.weights_hash(llm.model) == before

# %% [markdown]
# The share of training questions that is answered right, step by step, and the loss in nats a cell:

# %%
steps = [m["step"] for m in history["joint"]]
curves = {"right": [m.get("exact_1", np.nan) for m in history["joint"]]}
curves["loss"] = [m.get("loss_1", np.nan) for m in history["joint"]]
picture = plot.plot_curve(steps, curves, "share, nats", title="joint training")
run.log.figure(picture, "training")
picture

# %% [markdown]
# ## 6 · Does the language model help?
#
# A score alone would not say. The arms differ from the joint model in one thing each: TRM alone gets nothing; *shuffled*
# gets the states of another task, in training and when asked; *random_llm* those of the same language model before it was
# trained; *task_id* gets TRM's own vectors, which exist for learned tasks alone.

# %%
scores = {}


def score(arm, model):
    for name in ("seen", "variants", "unseen") if arm != "task_id" else ("seen",):
        right = hybrid.solved(model, getattr(sets, name), deadline=run.deadline)
        share, (low, high) = right.mean(), arc.wilson_interval(int(right.sum()), len(right))
        scores.setdefault(arm, {})[name] = (share, low, high)
        print(f"{arm:>10} {name:>9}: {share:6.1%} of {len(right)} (95 % interval {low:.3f} to {high:.3f})")


score("joint", model)

# %% [markdown]
# The others. The language model has also been pretrained on tasks of all these families, so *unseen* is unseen by TRM
# and the bridge, not by the reader.

# %%
for arm in rivals:
    rival = hybrid.build_arm(arm, llm, shape, joined, sets.rows, run.seed, config.cache_gib).to(device)
    score(arm, train(arm, rival, hybrid.JointConfig(**same), kept[arm]))

# %% [markdown]
# Bars with their 95 % intervals, one seed. Three seeds and the intervals of the differences: `make bench
# NAME=hybrid_ablation`.

# %%
picture = pictures.plot_arms(scores, "questions solved")
run.log.figure(picture, "arms")
picture

# %% [markdown]
# One more control costs no training: the trained joint model, asked with the states of another task. If its answers
# stay right, it never listened.

# %%
listening = scores["joint"]["variants"][0]
model.config = replace(joined, control="shuffled")
deaf = hybrid.solved(model, sets.variants, deadline=run.deadline).mean()
model.config = joined
print(f"variants: {listening:.1%} with its own states, {deaf:.1%} with those of another task")

# %% [markdown]
# ## 7 · Trying again
#
# Now a few more steps with two attempts each. The first prompt stays as it was; the second holds the attempt, the cells
# that it changed, for half of the rows, and the soft tokens. When asked, it holds just the same.

# %%
again = same | {"steps": config.feedback_steps, "max_attempts": 2, "feedback_every": 1, "autocast": False}
again |= {"batch_size": 16, "lr": config.lr / 4, "lr_matrices": 5e-3}
train("feedback", model, hybrid.JointConfig(**again), kept["feedback"])
last = history["feedback"][-1]
unchanged = hybrid.weights_hash(llm.model) == before
assert unchanged
print({name: round(last[name], 3) for name in ("exact_1", "exact_2") if name in last})

# %% [markdown]
# At a test input the loop goes by what it can know without the answer: the halting head's confidence, how much $z_H$ still
# moves, whether the answer repeats. `solve` has no argument that could carry a solution. Proof by poison: the same tasks
# with wrong answers, and with none, give the same bytes.


# %%
def as_asked(example, answer):
    pair = arc.Pair(example.question.input, answer)
    task = arc.Task(example.question.task_id, example.question.demonstrations, (pair,))
    return hybrid.questions_of(task)


sample, said = [] if run.deadline.passed else sets.variants[:4], []
for poison in (lambda answer: answer, lambda answer: 9 - answer, lambda answer: None):
    asked_now = [q for example in sample for q in as_asked(example, poison(example.answer))]
    answers = hybrid.solve(model, asked_now, attempts=2, demonstrations=True, stop=False)
    said.append([(a.q, None if a.grid is None else a.grid.tobytes()) for one in answers for a in one.attempts])
assert said[0] == said[1] == said[2], "predictions must not depend on labels"
print(f"{len(said[0])} attempts, the same under right, wrong and missing labels")

# %% [markdown]
# Attempts at a question side by side. About these nothing is said but what the model knows. The rows below are two of
# the task's demonstrations, each held out from its prompt: they may have feedback, for their outputs are shown to every
# solver. Outlined cells are wrong.


# %%
def attempts_at(example):
    question = example.question
    [answer] = hybrid.solve(model, [question], attempts=min(4, config.max_attempts), stop=False)
    tries = [(a.grid, a.q, f"still moving {a.residual:.2f}") for a in answer.attempts]
    rows = {"asked": (question.input, tries, example.answer)}
    held_out = list(hybrid.leave_one_out(question))[:2]
    for number, one in enumerate(held_out, start=1):
        [answer] = hybrid.solve(model, [one.question], attempts=1)
        first, shown = answer.attempts[0], arc.Pair(one.question.input, one.answer)
        said = hybrid.grid_to_feedback(first.grid, shown)
        rows[f"held out {number}"] = (shown.input, [(first.grid, first.q, said)], one.answer)
    return question.task_id, rows


# %% [markdown]
# The question whose answers change most:

# %%
pages = [attempts_at(example) for n, example in enumerate(sets.variants[:12]) if not (n and run.deadline.passed)]
changing = [len({str(grid) for grid, *_ in rows["asked"][1]}) for _, rows in pages]
liveliest = pages[int(np.argmax(changing))]
picture = pictures.plot_attempts(liveliest[1])
run.log.figure(picture, "attempts")
picture

# %% [markdown]
# More of them, to step through:

# %%
print(f"{sum(n > 1 for n in changing)} of {len(pages)} questions get different answers from attempt to attempt")
pictures.explore_attempts(pages)

# %% [markdown]
# ## 8 · Correcting itself, or simply asking again?
#
# The honest rival of sixteen attempts is sixteen independent answers with a vote: the same question in other
# orientations and colours, each turned back. Both cost sixteen readings of the language model and sixteen runs of TRM.

# %%
asked_all = [example.question for example in sets.variants]
ways = {"attempts": {"attempts": config.max_attempts, "stop": False}}
ways["views"] = {"attempts": 1, "views": config.max_attempts}
tries = {}
for way, how in ways.items():
    answers = hybrid.solve(model, asked_all, seed=run.seed, deadline=run.deadline, **how)
    per = len(answers) // len(asked_all)
    parts = [answers[i : i + per] for i in range(0, len(answers), per)]
    tries[way] = [[attempt for answer in part for attempt in answer.attempts] for part in parts]

# %% [markdown]
# The share solved after k tries. Of attempts, the last one counts, or the most frequent; of views, the most frequent.


# %%
def after(way, rule, k):
    best = [hybrid.ranked(tried[:k], rule)[:1] for tried in tries[way]]
    right = [bool(b) and hybrid.is_right(b[0], e) for b, e in zip(best, sets.variants, strict=True)]
    return (np.mean(right), *arc.wilson_interval(sum(right), len(right)))


ks = [k for k in (1, 2, 4, 8, 16) if k <= config.max_attempts]
rules = {
    "attempts, the last": ("attempts", "last"),
    "attempts, votes": ("attempts", "votes"),
    "views, votes": ("views", "votes"),
}
table = {name: {k: after(*how, k) for k in ks} for name, how in rules.items()}
for name, points in table.items():
    print(f"{name:>18}: " + "   ".join(f"{k}: {share:.1%}" for k, (share, *_) in points.items()))
picture = pictures.plot_self_correction(table)
run.log.figure(picture, "self_correction")
picture

# %% [markdown]
# ## 9 · ARC: drafts, and what TRM makes of them
#
# On ARC itself TRM need not start from nothing: the language model drafts an answer in each of eight views, and TRM sees
# the draft on its canvas beside the question. To mend drafts it has to have seen wrong ones whose answer it may know. So
# the drafter learns the demonstrations twice: once without the last one of each task, which it then drafts, as wrong as
# it will be on a test input; and once with all of them.

# %%
asked = [task.without_answers() for task in chosen]
drafter = lm.load_causal_lm(config.drafter_dir, device=device) if config.drafter_dir else llm
seconds = min(config.draft_seconds or 0, run.deadline.part(0.2) or np.inf)
early, late = hybrid.make_drafters(drafter, asked, seconds=seconds, seed=run.seed)
held_out = [held for task in asked if (held := hybrid.without_last_demonstration(task))]
shown = {(task.id, 0): [] for task in asked} | hybrid.write_drafts(early, held_out, deadline=run.deadline)
drafts = hybrid.write_drafts(late, asked, deadline=run.deadline)
alone = {key: [ranked.grid for ranked in ttt.vote(of)] for key, of in drafts.items()}
print(f"{arc.write_ranked(writer, alone, asked)} of {len(asked)} tasks have an answer of the drafter's")

# %% [markdown]
# TRM learns to turn the drafts of held-out demonstrations into their answers. The labels are outputs that every solver is
# shown; of the test pairs it sees inputs alone.

# %%
side = hybrid.canvas_side(asked)
mends = hybrid.trm_shape(config.hidden_size, config.halt_max_steps, mends=True, condition_cells=True)
if config.trm_checkpoint:
    mends = hybrid.load_pretrained(config.trm_checkpoint, config.hidden_size, side, config.halt_max_steps, mends=True)
joint = hybrid.HybridConfig(canvas_side=side, mode=config.mode, max_attempts=config.max_attempts)
mender = hybrid.build_arm("joint", llm, mends, joint, 1, run.seed, config.cache_gib).to(device)
lessons = [one for one in hybrid.mending_examples(asked, shown) if hybrid.fits(mender, one.question)]
print(f"{len(lessons)} questions on a canvas of {side} × {side}")
assert all(lesson.question.task_id in {task.id for task in asked} for lesson in lessons)

# %%
seconds = max(1, min(config.mend_seconds, run.deadline.part(0.6) or np.inf))
timed = {"steps": None, "seconds": seconds, "max_attempts": 2}
if lessons:
    sizes = {"batch_size": min(config.batch_size, 32), "lr": config.lr, "seed": run.seed, "autocast": autocast}
    settings = hybrid.JointConfig(**timed, **sizes, feedback_every=12, lr_matrices=0.01)
    report = lambda metrics: run.log.metric(**metrics, arm="mender")  # noqa: E731
    print(hybrid.JointTrainer(mender, lessons, settings, kept["mender"], report).run())

# %% [markdown]
# Up to sixteen attempts at each draft, each made from the one before. The rule that chooses was fixed before any result
# was seen: a draft counts one, TRM's last answer in a view as much as its halting head is sure of it.

# %%
attempted = hybrid.mend(mender, asked, drafts, attempts=config.max_attempts, deadline=run.deadline)
both = {key: hybrid.merged(drafts[key], attempted[key]) for key in drafts}
arc.write_ranked(writer, both, asked)
assert arc.validate_submission(writer.path, counts) == []
moved = sum(str(both[key][:2]) != str(alone[key][:2]) for key in drafts)
print(f"{moved} of {len(drafts)} test inputs are answered in another way than by the drafter alone")

# %% [markdown]
# Where the answers are known, both submissions are scored, a step of its own. The same with controls and intervals: `make
# bench NAME=hybrid_arc`.

# %%
solved_by = {}
if all(task.has_answers for task in chosen):
    other = arc.SubmissionWriter(run.out_dir / "drafter_alone.json", counts)
    arc.write_ranked(other, alone, asked)
    for name, path in (("drafter alone", other.path), ("hybrid", writer.path)):
        solved_by[name] = arc.score_submission(path, chosen)
        low, high = solved_by[name].ci_low, solved_by[name].ci_high
        print(f"{name:>14}: {solved_by[name].task_score:.1%} of {len(chosen)} tasks ({low:.3f} to {high:.3f})")

# %% [markdown]
# The draft that changed most, cell by cell: the draft, TRM's first attempts at it, and the truth where it is known.

# %%
rows = {}
for task_id, i in drafts:
    pair = next(task for task in chosen if task.id == task_id).test[i]
    for draft, answer in zip(drafts[task_id, i], attempted[task_id, i], strict=False):
        steps_of = [(a.grid, a.q, f"still moving {a.residual:.2f}") for a in answer.attempts[:3]]
        changed = sum(grid is None or not np.array_equal(grid, draft.grid) for grid, *_ in steps_of)
        about = (pair.input, [(draft.grid, 0.0, "the draft"), *steps_of], pair.output)
        rows[f"{task_id}, {draft.view[:4]}"] = (changed, about)
most = dict(sorted(rows.items(), key=lambda row: -row[1][0])[:2])
picture = pictures.plot_attempts({name: about for name, (_, about) in most.items()}) if most else None
if picture:
    run.log.figure(picture, "mended")
picture

# %% [markdown]
# ## 10 · Saved
#
# The folder holds adapters and TRM, not the language model, whose width it remembers. It answers as before:

# %%
folder = hybrid.save_hybrid(model, run.model_path, seed=run.seed)
loaded = hybrid.load_hybrid(folder, llm).to(device)
one, other = (hybrid.solve(m, asked_all[:3], attempts=2, stop=False) for m in (model, loaded))
assert [[a.q for a in x.attempts] for x in one] == [[a.q for a in x.attempts] for x in other]
for example, tried in zip(sets.variants, tries["views"], strict=True):
    best = hybrid.ranked(tried)[:1]
    run.log.task(example.question.task_id, right=bool(best) and hybrid.is_right(best[0], example), tries=len(tried))

# %% [markdown]
# ## Results

# %%
flat = {
    f"{arm}_{name}": round(float(values[0]), 4) for arm, sets_of in scores.items() for name, values in sets_of.items()
}
summary = run.log.close(
    llm=llm.name,
    **{f"parameters_{name.replace(' ', '_')}": n for name, n in parameters.items()},
    **flat,
    **{f"arc_{name.replace(' ', '_')}": round(score.task_score, 4) for name, score in solved_by.items()},
    arc_tasks=len(chosen),
    valid=True,
    joint_deaf_variants=round(float(deaf), 4),
    n=len(sets.variants),
    attempts_last=round(float(table["attempts, the last"][ks[-1]][0]), 4),
    views_votes=round(float(table["views, votes"][ks[-1]][0]), 4),
    tries=ks[-1],
    in_time=not run.deadline.passed,  # what came after the deadline counts as not solved
    language_model_unchanged=unchanged,
    model=str(folder),
)
tracker.close(summary)
summary

# %% [markdown]
# ## What to try next
#
# - `mode="carry"` or `mode="both"`: the text enters as the start of the latents; this small TRM keeps their gradient.
# - `data_dir=arcagi2/evaluation max_tasks=0`: other tasks; `submission.json` lies in `out_dir`.
# - `model_dir="models/smollm2-135m" drafter_dir="models/arc-micro"`: a reader with words, and a drafter of grids.
# - `epochs=30 tasks=2000`: is *unseen* a matter of more rules?
# - `model_dir="models/Qwen2-7B" quantization="4bit"` on a GPU: a reader that has words, and hears the feedback.
# - `frozen=false`: a LoRA lets the reader learn to speak to TRM; states can then not be kept, so it takes longer.
# - `make bench NAME=hybrid_ablation`: three seeds, six arms, intervals.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. Best of sixteen.** Section 8 counts the last attempt, or the most frequent. How often is *any* of them right? What is the
# difference called, and who could close it?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
for way, tried in tries.items():
    hit = [any(hybrid.is_right(one.grid, e) for one in each) for each, e in zip(tried, sets.variants, strict=True)]
    chosen_right = after(way, "votes", ks[-1])[0]
    print(f"{way}: {np.mean(hit):.1%} have a right one among them, by votes {chosen_right:.1%}")
    assert np.mean(hit) >= chosen_right
# The gap is one of selection: a verifier could close it, more attempts could not.

# %% [markdown] tags=["exercise"]
# **2. Gates at zero.** Before training, does TRM hear the language model at all? Give a new model and the trained one the
# states of *other* questions, and compare their latents.

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
fresh = hybrid.build_arm("joint", llm, shape, joined, sets.rows, run.seed).to(device)
own, others = model.first_states(batch_of), model.first_states([*batch_of[1:], batch_of[0]])
heard = {}
for name, one in (("new", fresh), ("trained", model)):
    with torch.no_grad():
        starts = [one.condition(batch, read) for read in (own, others)]  # (prefix, carry) each
        first, second = (one.trm(carry, batch, prefix)[1].float() for prefix, carry in starts)  # logits [B, N, 12]
    heard[name] = (first - second).abs().max().item()
    print(f"{name}: logits {heard[name]:.2g} apart")
assert heard["new"] == 0
