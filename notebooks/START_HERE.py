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
# # Start here
#
# > See an ARC task, solve one yourself, watch a small model learn one that it could not solve, and find the notebook that you
# > came for.
#
# **Time**: under 3 minutes on two CPU cores, without a GPU or a network; the first picture after seconds.

# %% tags=["find-package"]
import glob, importlib.util as util, subprocess, sys

found = util.find_spec("arc_helpers") or sys.path.extend([".", ".."]) or util.find_spec("arc_helpers")
wheels = [] if found else glob.glob("*.whl") + glob.glob("/kaggle/input/**/[ad]r*.whl", recursive=True)
assert found or wheels, "arc_helpers is missing: open this in its clone, or attach our dataset (Add Input)"
assert found or not subprocess.call([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *wheels])

# %% tags=["parameters"]
profile: str = "laptop"  # tiny, laptop, gpu or kaggle: which configs/<profile>.yaml fills the rest

# %% [markdown]
# ## 1 · What ARC is
#
# A few pairs of coloured grids show a rule; you apply it to a new grid. Every task has a rule of its own, so nothing that was
# learned before is enough: whoever solves it learns from these few pairs. [ARC Prize](https://arcprize.org) has the
# competition.
#
# Choose a task and solve it: *Copy input*, paint, *Check*. The answer stays hidden until *Show answers*. Keys: arrows move,
# digits choose a colour, space paints, Ctrl+Z takes back. *New task* draws one of your own.

# %%
from arc_helpers import arc, lm, play, runs, ttt

play.open_playground(arc.load_tasks("arcagi1/training"))

# %% [markdown]
# ## 2 · A model that fails, and learns
#
# The model that comes along was trained on other tasks and rules, and answers this one wrongly. So it is trained on
# this task's own pairs, turned, mirrored and recoloured: *test-time training*. A small adapter learns; the model itself
# stays as it is. The answer to the test input takes no part in it.
#
# Task `2de01db2` was chosen by a rule fixed beforehand (`benchmarks/learning_picture.py`): many tasks stay unsolved, as
# [the numbers](../docs/numbers.md) say.

# %%
config = runs.resolve("02_multilora_ttt", profile, {"form": "in_context", "joint_steps": 0})
base = lm.load_causal_lm(config.model_dir, trim_vocab=True)
(task,) = arc.choose_tasks(arc.load_tasks("arcagi2/training"), ids="2de01db2")
shots, losses = ttt.watch_task(base, task, ttt.settings_from(config, seed=0), shots=10)
print(f"{base.name}: {len(losses)} steps, loss {losses[0]:.2f} to {losses[-5:].mean():.2f} nats a token")

# %% [markdown]
# Move the slider, or press ▶. A cell is filled as far as the model is sure of it, given the cells before; wrong cells are
# outlined.

# %%
right = [arc.compare_grids(shot.grid, task.answers()[0]).correct for shot in shots]
print(
    f"before training: {'solved' if right[0] else 'wrong'}; after {shots[-1].step} steps: "
    f"{'solved' if right[-1] else 'wrong'}, by {shots[-1].votes} of {shots[-1].views} views"
)
play.watch_learning(play.Learning(task.without_answers(), shots, task.answers()[0], losses))

# %% [markdown]
# ## 3 · What each notebook holds
#
# Each link is the page as it looks when it has run. Times are those that each tells at its top, for
# the profile `laptop` on CPU cores.
#
# | notebook | what you learn | takes |
# |---|---|---|
# | [00_base_model](../docs/gallery/00_base_model.md) | where the model comes from: data, leak guard, training | 22 minutes |
# | [01_tokenization_debug](../docs/gallery/01_tokenization_debug.md) | what a model sees of a task | under a minute |
# | [02_multilora_ttt](../docs/gallery/02_multilora_ttt.md) | an adapter a task, many at once; views, votes, a submission | 4 minutes |
# | [03_trm_pretrain](../docs/gallery/03_trm_pretrain.md) | a tiny recursive model: what recursion and halting bring | 7 minutes |
# | [04_hybrid_joint](../docs/gallery/04_hybrid_joint.md) | a language model and a TRM, joined | 6.5 minutes |
# | [05_tinylora_dialog](../docs/gallery/05_tinylora_dialog.md) | a language model that learns while it reads | 7 minutes |
# | [06_memory_tests](../docs/gallery/06_memory_tests.md) | whether that is memory, with every control | 3.5 minutes |
# | [07_tptt_liza](../docs/gallery/07_tptt_liza.md) | linear attention in a pretrained model | 8 minutes |
#
# Open one from the file browser on the left: they are copies, in `work/`, and yours to change.

# %% [markdown]
# ## 4 · A task, a model, data of your own
#
# - **A task** that you drew above is a file, `work/tasks/<name>.json`: in 02, `data_dir = "work/tasks/<name>.json"`.
# - **A model**: any folder of a causal language model, in 02 `model_dir = "path/to/model"`; also the folder of a PEFT
#   adapter. `python -m arc_helpers models list` shows what is there, and `models get` fetches a pretrained one.
# - **Data**: any folder or file of ARC tasks, in any usual layout, is a `data_dir`.
#
# Every parameter works on the command line, too: `python -m arc_helpers run 02 --k 4 --steps 20`.
#
# ## 5 · To Kaggle
#
# ```
# make kaggle-zip       # a dataset, notebooks and a page of six clicks, for submitting by hand
# make kaggle-bundle    # the same for the API
# make kaggle-rehearsal # run it here as Kaggle does
# ```
#
# [kaggle/README.md](../kaggle/README.md) goes on from there. If you are stuck: [troubleshooting](../docs/troubleshooting.md).
