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
# # 02 · Multi-LoRA test-time training
#
# > Each ARC task gets its own small adapter, trained at test time on its own demonstrations; K of them learn at
# > once on one frozen base. Real tasks in, a valid `submission.json` out.
#
# When you have run this notebook you know
#
# - how K adapters share one base without ever seeing each other;
# - how an adapter learns from a task whose answer nobody knows;
# - how views, votes and two attempts make a submission;
# - whether the training helped, compared with the same base left alone.
#
# **Time** (profile `laptop`, 12 tasks): about 4 minutes on two CPU cores. By estimate, not measured: 3 on a
# T4, 2 on an H200, for a model this small keeps no GPU busy.

# %% tags=["find-package"]
import glob, importlib.util as util, subprocess, sys

found = util.find_spec("arc_helpers") or sys.path.extend([".", ".."]) or util.find_spec("arc_helpers")
wheels = [] if found else glob.glob("*.whl") + glob.glob("/kaggle/input/**/[ad]r*.whl", recursive=True)
assert found or wheels, "arc_helpers is missing: open this in its clone, or attach our dataset (Add Input)"
assert found or not subprocess.call([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *wheels])

# %% [markdown]
# ## Parameters
#
# `None` means: the value of the profile (`configs/<profile>.yaml`). A value that you set here, or on the command
# line (`python -m arc_helpers run 02 --k 2 --steps 10`), wins. 0 lifts a limit.

# %% tags=["main-parameters"]
profile: str = "laptop"  # tiny, laptop, gpu or kaggle: which configs/<profile>.yaml fills the rest
data_dir: str = None  # a set such as arcagi1/evaluation, a folder of tasks, or a challenges file
task_ids: str = None  # only these tasks, ids separated by commas
model_dir: str = None  # folder of the base model, or of an adapter that names its base
k: int = None  # tasks trained at once, one adapter each
steps: int = None  # training steps; 0 = none
views: int = None  # augmented views that vote, 1 to 16

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of augmentations and adapters
out_dir: str = None  # folder for what this run writes (default artifacts/02_multilora_ttt)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it

start_adapter: str = None  # PEFT folder of an adapter that the base starts from, such as 00's; empty = none
prompt_form: str = None  # how tasks are spelled: auto (as the model was trained), suite, architects or nvarc
solutions: str = None  # Kaggle solutions file, read by the scoring step alone
max_tasks: int = None  # at most so many tasks, the first by sha256 of the id
max_side: int = None  # only tasks whose visible grids are at most so wide and high

mode: str = None  # depth of the adapters: head (final hidden state), top_m (last layers) or full (every layer)
top_m: int = None  # layers that adapt with mode top_m, the last ones; 0 = a quarter of them
num_pseudo: int = None  # pseudo-tasks a task
r: int = None  # rank of an adapter
alpha: float = None  # an adapter's output is scaled by alpha / r
use_rslora: bool = None  # scale it by alpha / √r instead (rsLoRA), as the ARChitects did
target_modules: str = None  # layers that adapt, such as q_proj,v_proj,embed_tokens,lm_head; empty = all linear ones
lr: float = None  # learning rate
joint_steps: int = None  # steps in which a copy of the base learns all tasks together, before the adapters; 0 = none
form: str = None  # how a task is put: in_context, pairs (single pairs behind a token of the task) or both
patience: int = None  # steps without a new lowest loss after which an adapter has learned enough; 0 = all steps
grouping: str = None  # what tasks that train together share: length, size, palette, family or random (nothing)
group_tokens: int = None  # padded tokens that a group may have; 0 = no limit
tokens_at_once: int = None  # padded tokens that go through the model at once; None = what the memory holds
activation_checkpointing: str = None  # auto, on or off: compute layers again in backward, to save memory

strategy: str = None  # decoding in each view: greedy (one answer), beam or dfs (all likely ones)
min_prob: float = None  # dfs: every answer that is at least as likely, above 0 and below 1
select: str = None  # rank answers by votes, or by a product of experts over the views
control: bool = None  # also answer without training, to compare with
frontier: int = None  # tasks on which the depths are compared before the run; 0 = none
watch: int = None  # answers shown of one task while it is learned, after the run; 0 = none

max_len: int = None  # longest sequence, in tokens
quantization: str = None  # none, 4bit or 4bit-fp4: how the base is loaded
cache_gib: float = None  # memory that keeps what frozen layers compute, in GiB
cache_disk_gib: float = None  # disk that keeps what memory does not, in GiB
workers: int = None  # GPUs (or CPU processes) that solve groups; from 2 on by Ray
ray_address: str = None  # a running Ray cluster; empty = this machine
deadline_seconds: float = None  # wall-clock budget of this run, 0 = no limit; tasks left over keep fallback attempts
trust_remote_code: bool = None  # run Python code found in the model folder

# %% [markdown]
# ## Setup

# %%
from arc_helpers import arc, lm, play, plot, runs, ttt

run = runs.start_notebook("02_multilora_ttt", globals())
config = run.config

# %% [markdown]
# ## 1 · Tasks, and a submission that is valid from the first second
#
# A task that cannot be read is put aside; it does not stop the others. Answers, where the data have any, are
# removed *by construction*: what follows gets objects that do not hold them. They come back in section 8, for
# scoring alone.

# %%
faults = []
tasks = arc.load_tasks(config.data_dir, faults=faults)
tasks = arc.choose_tasks(tasks, ids=config.task_ids, max_side=config.max_side, limit=config.max_tasks)
tasks = [task.without_answers() for task in tasks]
faults = [] if config.task_ids or config.max_tasks else faults
assert not any(task.has_answers for task in tasks)
print(f"{len(tasks)} tasks, {sum(len(task.test) for task in tasks)} test inputs, {len(faults)} unreadable")

# %% [markdown]
# The submission is written before anything is loaded that could fail, with the fallback `[[0]]` for every test
# input, and is replaced atomically after every group of tasks. Whatever kills this run, the file stays valid, and the
# same command goes on where it stopped.

# %%
num_tests = arc.num_tests_of(tasks, faults)
writer = arc.SubmissionWriter(run.submission_path, num_tests, resume=run.resumed)
assert arc.validate_submission(writer.path, num_tests) == []
writer.path

# %% [markdown]
# One of the tasks. What would you answer?

# %% tags=["teaching"]
picture = plot.plot_task(tasks[0])
run.log.figure(picture, "task")
picture

# %% [markdown]
# ## 2 · The frozen base
#
# Of its vocabulary only the tokens that spell grids are kept, 16 of the suite's prompt form: full logits of a 7 B model
# over 152,000 tokens do not fit a T4. Probabilities are then among these tokens, in training as in decoding, which allows
# no others anyway. A model that was trained on ARC must be asked in *its* prompt form (notebook 01 shows each): it is
# found in the model's folder or by its tokenizer, and printed here.

# %%
base = lm.load_causal_lm(
    config.model_dir,
    start_adapter=config.start_adapter,
    prompt_form=config.prompt_form,
    quantization=config.quantization,
    max_len=config.max_len,
    trust_remote_code=config.trust_remote_code,
    trim_vocab=True,
)
if config.joint_steps:
    ttt.check_learner(base)  # now, not after minutes of work
parameters = sum(p.numel() for p in base.model.parameters())
assert not any(p.requires_grad for p in base.model.parameters())
print(
    f"{base.name}: {parameters / 1e6:.2f} M parameters, frozen, {base.dtype} on {base.device}, "
    f"sequences up to {base.max_len} tokens",
    base.prompt_form.description,
    *base.notes,
    sep="\n",
)

# %% [markdown]
# ## 3 · K adapters on one base, by hand
#
# In the simplest depth, `mode="head"`, adapter $i$ is two thin matrices, $A_i \in \mathbb{R}^{H \times r}$ and
# $B_i \in \mathbb{R}^{r \times H}$. They bend the last hidden state before the head reads it:
#
# $$\text{hidden}_i = \text{hidden} + \tfrac{\alpha}{r}\,\text{hidden}\,A_i B_i$$
#
# $B_i$ starts at zero, so an untrained adapter changes nothing. Two tasks small enough to write down, two slots:

# %% tags=["teaching"]
def by_hand(name, *pairs):
    test = arc.Pair([[3, 0], [0, 0]])
    return arc.Task(name, tuple(arc.Pair(question, answer) for question, answer in pairs), (test,))


mirror = by_hand("mirror", ([[1, 0], [0, 0]], [[0, 1], [0, 0]]), ([[0, 0], [2, 0]], [[0, 0], [0, 2]]))
paint = by_hand("paint", ([[1, 0], [0, 0]], [[5, 0], [0, 0]]), ([[0, 0], [2, 0]], [[0, 0], [5, 0]]))
model = ttt.MultiLoRAModel(base, ["mirror", "paint"], r=config.r, lora_alpha=config.alpha, seed=run.seed)
numbers = model.A[0].numel() + model.B[0].numel()
print(f"A {tuple(model.A.shape)}  B {tuple(model.B.shape)}  →  {numbers:,} numbers a task")  # [K, H, r], [K, r, H]

# %% [markdown]
# The examples are leave-one-out pseudo-tasks (notebook 01). The base is frozen, so its hidden states are constant:
# one forward pass a pseudo-task, kept at the answer positions only. After that, a training step is a few small
# matrix products.

# %% tags=["teaching"]
pseudo_tasks = [arc.build_pseudo_tasks(task, 4, run.seed) for task in (mirror, paint)]
examples = [[lm.encode(pseudo.task, base.prompt_form) for pseudo in pool] for pool in pseudo_tasks]
features = [ttt.answer_features(base, pool) for pool in examples]
first = features[0][0]
print(f"hidden {tuple(first.hidden.shape)} → targets {tuple(first.targets.shape)}")  # [answer tokens, H], [same]

# %% [markdown]
# **Gotcha.** A public script of this idea runs the base once, on task 0, and fits every adapter to *task 0's*
# hidden states: fast, and wrong. So we ask where each adapter's loss comes from. The gradient of loss $i$ with
# respect to the other task's hidden states must be exactly zero:

# %% tags=["teaching"]
import torch

hidden = torch.stack([pool[0].hidden for pool in features]).float().requires_grad_()  # [K, n, H]
labels = torch.stack([pool[0].targets for pool in features])  # [K, n]
losses = ttt.per_slot_cross_entropy(model.logits(hidden), labels)  # [K]
for i, loss in enumerate(losses):
    (gradient,) = torch.autograd.grad(loss, hidden, retain_graph=True)
    norms = gradient.flatten(1).norm(dim=1).tolist()
    print(f"loss {i} pulls at the hidden states of task 0 by {norms[0]:.4f} and of task 1 by {norms[1]:.4f}")
    assert norms[1 - i] == 0 < norms[i]

# %% [markdown]
# Twenty steps, and each adapter has learned its own task, not the other's:

# %% tags=["teaching"]
losses = ttt.train_multi_lora(model, features, steps=20, lr=config.lr, seed=run.seed)  # [steps, K]
print("first steps:", losses[:4].mean(axis=0).round(3), " last steps:", losses[-4:].mean(axis=0).round(3))
assert (losses[-4:].mean(axis=0) < losses[:4].mean(axis=0)).all()

# %% [markdown]
# That is as much as the last hidden state allows: such an adapter cannot change what attention looks at, or what is
# copied from where. The other two depths can: `top_m` puts low-rank matrices into every linear layer of the last m
# layers, `full` into all. The same two toy tasks, as deep as this run goes (`mode`):

# %% tags=["teaching"]
depth = {"mode": config.mode, "top_m": config.top_m, "r": config.r, "lora_alpha": config.alpha}
deep = ttt.MultiLoRAModel(base, ["mirror", "paint"], seed=run.seed, **depth)
prepared = ttt.prepare(deep, examples)
print(f"{config.mode}: {deep.bank.flat.shape[1]:,} numbers a task, {len(deep.bank.names)} tensors a slot")
deep_losses = ttt.train_multi_lora(deep, prepared, steps=20, lr=config.lr, seed=run.seed)  # [steps, K]
print("last steps:", deep_losses[-4:].mean(axis=0).round(3))

# %% [markdown]
# What twenty steps have done to one answer, in percent, token by token: under the base alone, and with this task's
# adapter. It was trained on this very pseudo-task, so this shows that it learns, not that it has understood.

# %% tags=["teaching"]
asked = [pool[0] for pool in examples]  # a pseudo-task of each
likely = {
    "base": [lm.answer_logprobs(base, one) for one in asked],
    "adapter": [ttt.answer_logprobs(deep, one, slot) for slot, one in enumerate(asked)],
}
answer = asked[0].input_ids[asked[0].prompt_length :]
picture = plot.plot_probabilities(answer, base.prompt_form.symbol, {name: each[0] for name, each in likely.items()})
run.log.figure(picture, "answer_tokens")
picture

# %% [markdown]
# The whole sequences, prompts included; choose the model by which the answer is shaded. The table has a column for each.

# %% tags=["teaching"]
assert all(adapter.mean() > alone.mean() for alone, adapter in zip(*likely.values(), strict=True))
plot.explore_tokens(asked, base.prompt_form.symbol, names=["mirror", "paint"], logprobs=likely)

# %% [markdown]
# ## 4 · How deep? What each depth brings, and what it costs
#
# A step of `head` costs almost nothing, since what the base computes is kept; `top_m` keeps what enters its first
# layer; `full` has to run everything, every time. What that buys can be measured without any label: hold out the last
# demonstration of a task, let adapters learn from the others, and ask how likely they find its known answer, in nats
# a token (lower is better). A few of this run's own tasks, a quarter of its steps:

# %% tags=["teaching"]
import dataclasses

fewer = {"steps": max(1, config.steps // 4), "num_pseudo": min(config.num_pseudo, 16)}
short = dataclasses.replace(ttt.settings_from(config, run.seed), **fewer)
probes = [probe for task in tasks if (probe := ttt.with_held_out_demonstration(task))]
look = not (run.resumed or config.deadline_seconds)  # a run that goes on has had it; a deadline leaves no time for it
probes = probes[: config.frontier] if look else []
depths = ttt.depths_of(base) if probes else {}
found = {name: ttt.score_depth(base, probes, short, **depth) for name, depth in depths.items()}
for name, score in found.items():
    print(
        f"{name:<16} {score.mean_nll:.3f} nats a token, {score.seconds:6.2f} s and {score.numbers:>9,} numbers a task"
    )
better = [name for name, score in found.items() if score.mean_nll < found["untrained"].mean_nll]
print("Better than untrained here:", ", ".join(better) or "no depth" if found else "not looked at")

# %% [markdown]
# Each point is a depth, from left to right what it costs; the line is the base without any. The deeper, the more numbers
# an adapter has:

# %% tags=["teaching"]
points = {name: (score.seconds, score.mean_nll) for name, score in found.items() if score.numbers}
assert [found[name].numbers for name in points] == sorted(found[name].numbers for name in points)
axes = ("seconds a task (logarithmic)", "nats a token, held-out demonstration")
before = ("untrained", found["untrained"].mean_nll) if found else None
picture = plot.plot_tradeoff(points, *axes, baseline=before) if points else None
if picture:
    run.log.figure(picture, "frontier")
picture or "no depth was looked at (frontier, or a run that goes on)"

# %% [markdown]
# **Gotcha.** A handful of tasks and a quarter of the steps make a look, not a measurement: a depth may win here by
# luck, and deep adapters are still learning when the steps run out. `benchmarks/ttt_accuracy.py` compares the depths on
# 200 tasks, with intervals.

# %% [markdown]
# ## 5 · All tasks together, first
#
# An adapter has only its own task to learn from. `joint_steps` lets a *copy* of the base learn the demonstrations of all
# tasks of this run together, with all its weights; the adapters then start from there. In a few hundred steps a small
# model learns most from *single pairs*, `form="pairs"`: one question, one answer, no other demonstration. The rule is
# then nowhere in the prompt. It is in two tokens in front: one that belongs to the task and is learned with the
# weights, and one that says in which of the eight symmetries the pair is shown.
#
# The base may even be one that has learned nothing (`python -m arc_helpers models new models/fresh --layers 3`): with
# `steps=0` it learns from these demonstrations alone, for most of `deadline_seconds`. The
# [speedrun](../records/README.md) is that on two cores, with a model for each size of task.

# %%
learner, state, table = base, run.out_dir / "joint.pt", run.out_dir / "joint.jsonl"
if config.joint_steps:
    share = 1 / 3 if config.steps else 0.85  # of the time; without adapters only answering is left
    joint = ttt.joint_config(str(base.device), config.joint_steps, run.deadline.part(share), seed=run.seed)
    written = {"checkpoint": state, "on_metrics": lambda metrics: runs.append_record(table, metrics)}
    learner = ttt.adapt_jointly(base, tasks, joint, form=config.form, **written)
    print(f"{learner.name}: {len(learner.task_tokens.names)} tasks have a token of their own")

# %% [markdown]
# ## 6 · The run
#
# Groups of `k` tasks of like length. For each group: pseudo-tasks → K adapters trained together (losses summed over
# the adapters; clip, moments and finite gate of each its own) → every test input answered greedily in every view, as
# many side by side as the memory holds, each with its own adapter → answers turned back. With `select="product"` every
# distinct answer is then scored in *every* view, and the two with the largest product of probabilities are written:
# what one view finds likely and another impossible is wrong.
#
# The picture follows the training: a curve an adapter, a box a task. ■ in the toolbar stops the run; this notebook, run
# again from its top, goes on where it was stopped.

# %%
settings = ttt.settings_from(config, run.seed)
options = {"deadline": run.deadline, "resume": run.resumed}
options |= {"workers": config.workers, "ray_address": config.ray_address}
monitor = plot.TrainingMonitor([task.id for task in tasks]).show()
given = {"faults": faults, "replan": run.env.on_kaggle, "on_losses": monitor}
results = ttt.solve_tasks(learner, tasks, settings, run.log, writer, **given, **options)

# %% [markdown]
# Whatever became of the tasks, the file can be submitted:

# %%
run.log.figure(monitor.finish(), "monitor")
print(
    f"{len(results)} of {len(tasks)} tasks went through; {writer.path} is valid:",
    arc.validate_submission(writer.path, num_tests) == [],
    *results.notes,
    sep="\n",
)

# %% [markdown]
# What became of each task is in `tasks.jsonl`, errors included:

# %%
for record in runs.read_jsonl(run.out_dir / "tasks.jsonl"):
    print(*(record[name] for name in ("task_id", "status", "votes", "notes", "error") if record.get(name)))

# %% [markdown]
# And what each group took is in `groups.jsonl`: seconds, memory, tokens a second, padding, and how busy the GPU was.

# %%
for record in runs.read_jsonl(run.out_dir / "groups.jsonl"):
    facts = {name: value for name, value in record.items() if name != "tasks" and value is not None}
    shown = [f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in facts.items()]
    print(f"{len(record['tasks'])} tasks:", ", ".join(shown))

# %% [markdown]
# ## 7 · A look inside
#
# Each line is one adapter's loss on its own pseudo-tasks. They start where the base left them, and each goes its
# own way.

# %%
import numpy as np

shown = list(results.values())[: 2 * config.k]
losses = np.array([result.losses for result in shown]).T  # [steps, tasks]
names = [result.task_id for result in shown]
picture = plot.plot_losses(losses, names) if losses.size else None
if picture:
    run.log.figure(picture, "losses")
picture or "no adapter was trained (steps=0): no losses"

# %% [markdown]
# The distinct answers to one test input, best first: how many views gave each (the dots say which), and the sum of its
# log-probabilities under *all* views, by which `select="product"` ranks (0 would be certain in every one). Agreement
# between views needs no label; whether it was a sign of quality, section 9 shows. Of the inputs with several candidates
# this is the one on which most views agree:

# %%
walls = [
    (f"{r.task_id} test {i}", ranked, None) for r in results.values() for i, ranked in enumerate(r.ranked) if ranked
]
walls.sort(key=lambda wall: (len(wall[1]) < 2, -wall[1][0].votes))
picture = plot.plot_candidates(walls[0][1], title=walls[0][0]) if walls else None
if picture:
    run.log.figure(picture, "candidates")
picture or "no view gave a valid answer"

# %% [markdown]
# ## 8 · Scoring, the separate step
#
# Only here are answers read, from the data again, and only the saved file is scored. Beside the score stands a
# control: the same base, the same views, no training.

# %%
base_results = {}
if config.control and not run.deadline.passed:
    control_log = runs.RunLog(run.out_dir / "control", "control", profile, run.seed, config, run.device)
    control_writer = arc.SubmissionWriter(control_log.out_dir / "submission.json", num_tests)
    nothing = {"steps": 0, "joint_steps": 0, "form": "in_context"}
    untrained = ttt.settings_from(config.model_copy(update=nothing), run.seed)
    base_results = ttt.solve_tasks(base, tasks, untrained, control_log, control_writer, **options)

# %% [markdown]
# The answers, and the two scores. A task that could not be read, or that has no solution, counts as not solved: the score
# is over all that this run was about, or there is none.

# %%
benchmark = arc.load_benchmark(config.data_dir, solutions=config.solutions, ids=num_tests)
labelled, scores = benchmark.tasks, {}
if labelled:
    scores["trained"] = arc.score_benchmark(writer.path, benchmark)
    if (run.out_dir / "control" / "submission.json").is_file():
        scores["control"] = arc.score_benchmark(run.out_dir / "control" / "submission.json", benchmark)
    arc.write_scored_texts(run.out_dir / "predictions", labelled)
for name, score in scores.items():
    print(
        f"{name}: {score.tasks_solved} of {score.n_tasks} tasks{score.caveat}, {score.outputs_solved} of "
        f"{score.n_outputs} outputs, score {score.task_score:.3f} "
        f"(95 % interval {score.ci_low:.3f} to {score.ci_high:.3f})"
    )

# %% [markdown]
# With a dozen tasks the interval is wide: a difference of one task says nothing. The scores in `docs/numbers.md` use
# more.
#
# ## 9 · Pictures
#
# Every prediction beside the truth, wrong cells outlined. The one shown here is the best by score, then by the
# smallest share of wrong cells.

# %%
answered = [task for task in labelled or tasks if task.id in results]
if scores:
    answered.sort(key=lambda task: arc.wrong_share(results[task.id].attempts, task))
drawn = []
for task in answered:
    truth = task.answers() if labelled else None
    drawn.append((task, results[task.id].attempts, truth))
    run.log.figure(plot.plot_prediction(*drawn[-1]), f"prediction_{arc.safe_name(task.id)}")
plot.plot_prediction(*drawn[0]) if drawn else "no task was answered"

# %% [markdown]
# All of them to play with: solve one yourself, then *Show answers* puts yours beside those of the base and of its adapter.

# %%
said = {
    who: {name: result.attempts for name, result in found.items()}
    for who, found in (("base", base_results), ("adapter", results))
}
play.open_playground(answered, said) if answered else None

# %% [markdown]
# And their candidate walls, now with the truth. Was it ever proposed? Did it get more votes than the others, or a higher
# product?

# %%
truths = {f"{task.id} test {i}": grid for task in labelled for i, grid in enumerate(task.answers())}
judged = [(name, ranked, truths[name]) for name, ranked, _ in walls if name in truths]
plot.explore_candidates(judged or walls) if walls else None

# %% [markdown]
# ## 10 · Watch it learn
#
# The task of the picture in section 9, trained once more as the run has trained it. Move the slider: the answer by most
# views after so many steps, each cell filled as far as the model is sure of it, given the cells before; beside it the
# loss. The truth marks what is wrong, and takes no part. `learning/` holds the same as a page and as a GIF.

# %% tags=["teaching"]
story = None
timed = config.deadline_seconds or run.deadline.passed  # a deadline leaves no time for it
if config.watch and answered and not timed:
    task = answered[0]
    shots, losses_seen = ttt.watch_task(learner, task, settings, shots=config.watch)
    truth = task.answers()[0] if task.has_answers else None
    story = play.Learning(task.without_answers(), shots, truth, losses_seen) if shots else None
if story:
    print(*story.save(run.out_dir / "learning"), sep="\n")
play.watch_learning(story) if story else "nothing was watched (watch=0, a deadline, or no answer)"

# %% [markdown]
# ## Results

# %%
problems = arc.validate_submission(writer.path, num_tests)
score, untrained = scores.get("trained"), scores.get("control")
summary = run.log.close(
    model=base.name,
    mode=config.mode,
    k=config.k,
    steps=config.steps,
    views=config.views,
    tasks=len(tasks),
    unreadable=len(faults),
    **vars(results.counts),  # answered, fallback, errors, out_of_time, resumed
    valid=not problems,
    scored=bool(scores),
    **(score.summary() if score else {}),
    control_solved=untrained.tasks_solved if untrained else None,
    loss_first=float(np.nanmean(losses[:1])) if losses.size else None,
    loss_last=float(np.nanmean(losses[-5:])) if losses.size else None,
)
assert not problems, problems
summary

# %% [markdown]
# ## What to try next
#
# - `k=1` and `k=8`: the answers stay the same, the seconds do not.
# - `mode=top_m top_m=2`, `mode=head`: less to learn with, much less to wait for. Does section 4 agree with the score?
# - `strategy=dfs min_prob=0.05`: every likely answer instead of one a view.
# - `workers=2` (the extra `ray`): two GPUs, or two CPU processes, share the groups; `ray_address` for a cluster.
# - `steps=0`, 20, 200: where does the loss stop to pay in votes?
# - `views=1` against 8: what voting is worth without any training.
# - A task of your own: `data_dir="path/to/task.json"`.
# - `python -m arc_helpers score artifacts/02_multilora_ttt/submission.json --data arcagi1/evaluation --partial`
#   scores the saved file again, from outside.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. Why only one of them starts at zero.** With $B = 0$ an adapter changes nothing, and yet it learns. Which of $A$ and $B$ has a
# gradient in the first step? What would happen if both began at zero?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
import torch

hidden, target = torch.randn(5, 8), torch.randn(5, 8)
for start in (torch.randn(8, 2), torch.zeros(8, 2)):
    A, B = start.requires_grad_(), torch.zeros(2, 8, requires_grad=True)
    (hidden + hidden @ A @ B - target).square().mean().backward()
    print(f"gradient of A {A.grad.norm():.3f}, of B {B.grad.norm():.3f}")
assert not A.grad.any() and not B.grad.any()  # both at zero: neither ever moves

# %% [markdown] tags=["exercise"]
# **2. Three ways to choose.** Most votes; the likeliest in the views that gave it; the likeliest in all views. For how many test
# inputs of this run do the first choices differ, and which of them are right?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
ways = {"votes": lambda one: one.votes, "its own views": lambda one: one.logprob}
if walls and all(one.product is not None for _, ranked, _ in walls for one in ranked):
    ways["all views"] = lambda one: one.product
firsts = {way: {name: max(ranked, key=key).grid for name, ranked, _ in walls} for way, key in ways.items()}
for way, grids in firsts.items():
    other = sum(not np.array_equal(grid, firsts["votes"][name]) for name, grid in grids.items())
    right = sum(np.array_equal(grid, truths[name]) for name, grid in grids.items() if name in truths)
    print(f"{way}: {other} of {len(grids)} unlike the vote, {right} right")

# %% [markdown] tags=["exercise"]
# **3. How many tasks make a result?** One method solves 20 %, another 10 %. From how many tasks on do their 95 % intervals no
# longer touch? What could be compared instead, where both methods answered the same tasks?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
for n in (12, 50, 100, 200, 400):
    low, high = arc.wilson_interval(n // 5, n)[0], arc.wilson_interval(n // 10, n)[1]
    print(f"{n} tasks: 20 % is above {low:.3f}, 10 % below {high:.3f}: {'apart' if low > high else 'they touch'}")
assert not arc.wilson_interval(2, 12)[0] > arc.wilson_interval(1, 12)[1]
# Paired: only the tasks that one solves and the other does not. 14 against 4 of them is clear with far fewer tasks.
