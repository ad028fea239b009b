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
# # 01 · What the model sees
#
# > One ARC task, turned into training sequences and looked at token by token.
#
# Most silent failures of test-time training happen before the first gradient: an augmentation that swaps question
# and answer, a tokenizer that merges two cells, a label on the prompt, a context that cuts the demonstrations.
# Each shows in a table of tokens, and nowhere else. When you have run this notebook you know
#
# - what a *pseudo-task* is, and that it holds no test answer;
# - the exact string and the exact token ids that the model gets;
# - which tokens count in the loss, and where the prompt ends;
# - what is lost when a task is longer than the context.
#
# **Time**: under a minute, on a CPU as on a T4 or an H200 (an estimate); no GPU is needed.

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
# line (`python -m arc_helpers run 01 --problem_path …`), wins.

# %% tags=["main-parameters"]
profile: str = "laptop"  # tiny, laptop, gpu or kaggle: which configs/<profile>.yaml fills the rest
model_dir: str = None  # Hugging Face folder of the model whose tokenizer is used
problem_path: str = None  # a set such as arcagi1/evaluation, a task file, or a folder of tasks
task_id: str = None  # which task of it (default: the first)
num_pseudo: int = None  # pseudo-tasks to make

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of the augmentations
out_dir: str = None  # folder for what this run writes (default artifacts/01_tokenization_debug)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it
prompt_form: str = None  # how tasks are spelled: auto (as the model was trained), suite, architects or nvarc
pseudo_index: int = None  # the one to look at, from 0
max_len: int = None  # longest sequence, in tokens
max_tokens_show: int = None  # rows of the token table

# %% [markdown]
# ## Setup
#
# `start` checks every parameter before anything is loaded, and says where it runs, in which number format, and why.

# %%
from arc_helpers import arc, lm, play, plot, runs

run = runs.start_notebook("01_tokenization_debug", globals())
config = run.config

# %% [markdown]
# ## 1 · A task
#
# A task shows its rule by a few *demonstrations*, and asks for the output of one or more *test inputs*. We take its
# answers away at once: nothing below can see them.

# %%
tasks = {task.id: task.without_answers() for task in arc.load_tasks(config.problem_path)}
task = tasks[config.task_id or next(iter(tasks))]
picture = plot.plot_task(task)
run.log.figure(picture, "task")
picture

# %% [markdown]
# A bare task at the end of a cell draws itself, too; that needs no plotting library.

# %%
assert not task.has_answers
task

# %% [markdown]
# ## 2 · Pseudo-tasks
#
# Test-time training needs questions whose answers we know. The demonstrations are such questions: hold one out, let
# the others demonstrate, and ask for the one held out (*leave-one-out*). Rotations, reflections and permuted colours
# make many puzzles of each. Colour 0, the background, stays.

# %%
pseudo_tasks = arc.build_pseudo_tasks(task, config.num_pseudo, seed=run.seed)
assert config.pseudo_index < len(pseudo_tasks), f"pseudo_index must be below {len(pseudo_tasks)}"
for i, pseudo in enumerate(pseudo_tasks):
    print(
        f"{'→' if i == config.pseudo_index else ' '} {i}: demonstration {pseudo.held_out} held out, "
        f"{len(pseudo.task.train)} demonstrate, {pseudo.transform.name}"
    )

# %% [markdown]
# The same grid through the transforms of these pseudo-tasks:

# %%
grid = task.train[0].input
picture = plot.plot_transforms(grid, [pseudo.transform for pseudo in pseudo_tasks[:8]])
run.log.figure(picture, "augmentations")
picture

# %% [markdown]
# **Gotcha.** A well-known ARC code base once swapped train and test in one augmentation. Nothing crashed; the
# leaderboard score was four points lower until somebody looked. So every transform here has an exact inverse, and
# we ask for it:

# %%
for pseudo in pseudo_tasks:
    back = pseudo.transform.inverse.task(pseudo.task)
    assert back.test[0] == task.train[pseudo.held_out]
    assert set(back.train) <= set(task.train)
print(f"{len(pseudo_tasks)} of {len(pseudo_tasks)} transforms turn back exactly")

# %% [markdown]
# This is the one we follow from here:

# %%
pseudo = pseudo_tasks[config.pseudo_index]
picture = plot.plot_task(pseudo.task)
run.log.figure(picture, "pseudo_task")
picture

# %% [markdown]
# ## 3 · From grid to text
#
# First by hand. A 2 × 2 grid is two rows of digits, each closed by a line feed: one token a cell, one a row end.

# %%
base = lm.load_causal_lm(config.model_dir, max_len=config.max_len, prompt_form=config.prompt_form)
spelling = base.prompt_form
small = arc.as_grid([[0, 1], [2, 3]])
ids = spelling.grid_ids(small)
print(spelling.description)
print(repr(spelling.decode(ids)), "→", ids.tolist())
assert len(ids) == spelling.grid_length(small.shape)

# %% [markdown]
# The ids of the symbols are *joined*; the text is never cut by the tokenizer. For ours that is the same. Llama 3 cuts
# digits by threes, others merge a line feed with what stands beside it, and then a cell would have no token of its own.
# A general model has read such numbers in its own cut, so joined ids are new to it; training takes care of that:

# %%
readings = lm.two_readings(base.tokenizer, spelling, arc.as_grid([[1, 2, 3, 4], [0, 0, 0, 0]]))
for name, texts in readings.items():
    print(f"{name:<12}│ " + " │ ".join(texts) + f" │  {len(texts)} tokens")
same = readings["joined ids"] == readings["cut as text"]
print("the tokenizer cuts it in the same way" if same else "the tokenizer would cut it otherwise: ids are joined")

# %% [markdown]
# In the suite's prompt form a pair is `I` rows `O` rows and an end token. A prompt is demonstrations, then `I`, the query,
# and `O`; the answer is what follows. The model learns to write that, and nothing else.

# %%
encoded = lm.encode(pseudo.task, spelling, max_len=base.max_len)
text = spelling.decode(encoded.input_ids[: encoded.prompt_length])
print(text if len(text) < 800 else f"{text[:380]}\n   … {len(text) - 760} characters …\n{text[-380:]}")

# %% [markdown]
# And the answer that it has to write, from which the grid can be read back:

# %%
answer = spelling.decode(encoded.input_ids[encoded.prompt_length :])
print(answer)
assert (spelling.answer_grid(encoded.input_ids[encoded.prompt_length :]) == pseudo.task.test[0].output).all()

# %% [markdown]
# A model that knows ARC from elsewhere knows it in *its* spelling, and nothing fails when it is asked in another one: it
# only answers worse. So the spelling is one object, a `PromptForm`, and everything here goes through it: training,
# decoding, lengths. It is found by a `prompt_form.json` in the model's folder, else by a tokenizer that was made for
# ARC, else it is the suite's; `prompt_form` overrides that. The three that are known, with one pair and one question of
# 1 × 2 cells:

# %%
example = arc.Task("example", (arc.Pair([[1, 2]], [[2, 1]]),), (arc.Pair([[3, 4]], [[4, 3]]),))
for form in lm.FORMS.values():
    tokens = lm.encode(example, form)
    print(f"{form.name}, {len(tokens)} tokens: {form.decode(tokens.input_ids)!r}")
    assert (form.answer_grid(tokens.input_ids[tokens.prompt_length :]) == [[4, 3]]).all()

# %% [markdown]
# ## 4 · Token by token
#
# `label` is what the loss compares with; −100 means *not counted*. Every prompt token must have it.

# %%
table = plot.token_table(encoded.input_ids, encoded.labels, spelling.symbol, limit=config.max_tokens_show)
table

# %% [markdown]
# The same in one line, asserted:

# %%
prompt_labels = encoded.labels[: encoded.prompt_length]
assert (prompt_labels == -100).all() and encoded.answer_tokens == len(encoded) - encoded.prompt_length
print(
    f"{len(encoded)} tokens: the prompt ends before token {encoded.prompt_length}; "
    f"{encoded.answer_tokens} count in the loss ({encoded.answer_tokens / len(encoded):.0%})"
)

# %% [markdown]
# ## 5 · What the untrained base makes of it
#
# One forward pass gives the probability of each answer token, given the right ones before it. The dark underlines
# are what test-time training has to teach.

# %%
logprobs = lm.answer_logprobs(base, encoded)
picture = plot.plot_tokens(encoded.input_ids, encoded.labels, spelling.symbol, logprobs=logprobs)
run.log.figure(picture, "tokens")
picture

# %% [markdown]
# Two numbers for it. A *nat* is the natural logarithm's unit: 0 is certain, 0.69 is a coin.

# %%
print(f"{-logprobs.mean():.3f} nats a token; guessing among 12 answer tokens would be 2.485")
print(f"{(logprobs > -0.6931).mean():.0%} of the answer tokens have a probability above one half")

# %% [markdown]
# ## 6 · What can go wrong
#
# **A context that is too short.** Demonstrations are then dropped from the front until the rest fits, and the
# sequence says how many. Here is the same pseudo-task with ever less room:

# %%
room = len(encoded)
while True:
    try:
        short = lm.encode(pseudo.task, spelling, max_len=room)
    except lm.TaskTooLong as error:
        print(f"max_len {room}: {error}")
        break
    print(f"max_len {room}: {len(short)} tokens, {short.dropped} of {len(pseudo.task.train)} demonstrations dropped")
    room = len(short) - 1

# %% [markdown]
# **A tokenizer that merges digits.** GPT-2's and Llama 3's read `12` as one token: two cells in one, and the grid's shape
# is lost. So prompts are never tokenised: each symbol is looked up by itself, and the ids are joined. (The model then
# sees digits in an order that its own tokenizer would have written otherwise; training tells it.)

# %%
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

tokens = {token: i for i, token in enumerate([*"0123456789\nIO", "01", "<end>"])}
merging = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(tokens, [("0", "1")])), eos_token="<end>")
joined = lm.PromptForm.from_tokenizer(merging).grid_ids(arc.as_grid([[0, 1]]))
print("as a text:", merging.tokenize("01\n"), "  joined:", merging.convert_ids_to_tokens(joined))
assert len(merging.tokenize("01\n")) == 2 < len(joined)

# %% [markdown]
# A tokenizer that has no token for a symbol at all is refused when the model is loaded, and so is a prompt form that
# does not fit the tokenizer:

# %%
try:
    lm.PromptForm.from_tokenizer(merging, "a small tokenizer", "nvarc")
except lm.TokenizerError as error:
    print(error)

# %% [markdown]
# ## 7 · Explore
#
# Move through the pseudo-tasks and their tokens; the column *base* is the probability that it gives to each answer
# token. (Where no one watches, papermill or a test, you see the first.)

# %%
sequences = [lm.encode(p.task, spelling, max_len=base.max_len) for p in pseudo_tasks]
known = {"base": [lm.answer_logprobs(base, sequence) for sequence in sequences]}
names = [f"pseudo-task {i}" for i in range(len(sequences))]
plot.explore_tokens(sequences, spelling.symbol, names=names, logprobs=known)

# %% [markdown]
# Turn, flip and recolour a pair: the last column is the inverse of the middle one. Is it always the first?

# %%
plot.explore_augmentations(task)

# %% [markdown]
# And all tasks of all sets, by largest side, number of colours and number of demonstrations; `task_id` takes any of them
# (with `problem_path` naming its set). No answer is shown before you ask for it: solve a few.

# %%
sets = [f"{edition}/{part}" for edition in ("arcagi1", "arcagi2") for part in ("training", "evaluation")]
play.open_playground({name: arc.load_tasks(name) for name in sets})

# %% [markdown]
# ## Results

# %%
summary = run.log.close(
    task_id=task.id,
    model=base.name,
    pseudo_tasks=len(pseudo_tasks),
    tokens=len(encoded),
    prompt_tokens=encoded.prompt_length,
    answer_tokens=encoded.answer_tokens,
    dropped=encoded.dropped,
    base_loss=round(float(-logprobs.mean()), 4),
    round_trips=len(pseudo_tasks),
)
summary

# %% [markdown]
# ## What to try next
#
# - `pseudo_index=1`, then 2: the same demonstrations in other clothes.
# - `max_len=400`: which demonstrations are lost, and does the loss of section 5 rise?
# - Another model: `make models NAME=smollm2-135m`, then `model_dir="models/smollm2-135m"`, or any other folder. Its
#   vocabulary is a hundred thousand times larger, its table looks the same.
# - Then `02_multilora_ttt`: training on all of this.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. Plant the bug.** Swap input and output of every demonstration, as that code base did, and leave the question alone.
# Does the round trip of section 2 notice? Does the loss?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
turned_round = tuple(arc.Pair(pair.output, pair.input) for pair in pseudo.task.train)
swapped = arc.Task("swapped", turned_round, pseudo.task.test)
back = pseudo.transform.inverse.task(swapped)
print("the round trip notices:", not set(back.train) <= set(task.train))
for name, one in (("right", pseudo.task), ("swapped", swapped)):
    nats = -lm.answer_logprobs(base, lm.encode(one, spelling, max_len=base.max_len)).mean()
    print(f"{name}: {nats:.3f} nats a token")  # a loss is a number in both cases: nothing crashes

# %% [markdown] tags=["exercise"]
# **2. How long is a task?** A pseudo-task holds all demonstrations, one of them as the question. What share of the evaluation
# tasks has room in 1024, 2048, 4096 and 8192 tokens?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
lengths = [spelling.length(one.train) for one in arc.load_tasks("arcagi1/evaluation")]
for room in (1024, 2048, 4096, 8192):
    print(f"{room} tokens: {sum(length <= room for length in lengths) / len(lengths):.0%} of {len(lengths)} tasks")
assert max(lengths) > 1024, "some are cut in a short context"

# %% [markdown] tags=["exercise"]
# **3. How many clothes has a grid?** Eight symmetries times all ways to recolour *m* colours are at most 8 · 9! / (9 − m)!
# different grids. How many has `[[1, 0], [0, 0]]`, and how many has `[[1, 2], [2, 1]]`? Where are the others?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
from itertools import permutations, product

import numpy as np


def clothes(grid):
    used = sorted({*grid.ravel().tolist()} - {0})
    found = set()
    for turns, flip, new in product(range(4), (False, True), permutations(range(1, 10), len(used))):
        colors = dict(zip(used, new, strict=True)) | {0: 0}
        turned = np.rot90(np.fliplr(grid) if flip else grid, turns)
        found.add(tuple(colors[cell] for cell in turned.ravel().tolist()))
    return len(found)


print(clothes(arc.as_grid([[1, 0], [0, 0]])), "of 72;", clothes(arc.as_grid([[1, 2], [2, 1]])), "of 576")
assert clothes(arc.as_grid([[1, 2], [2, 1]])) == 72  # its quarter turn is the grid with its two colours exchanged
