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
# # 06 · Is it memory?
#
# > A model that answers after reading may have remembered, or may only have got used to how dialogues go. Here are the
# > tests that tell the two apart, with a control beside every number.
#
# When you have run this notebook you know
#
# - how to make sure, exactly, that attention cannot have seen a fact;
# - why "the loss fell by so many percent" proves nothing, and what does;
# - how much is remembered, for how long, and what breaks it;
# - what it is *not*: how small the effect is where nothing has to be remembered.
#
# **Time** (profile `laptop`): 3.5 minutes on one CPU core; an estimated 4 on a T4 and 3 on an H200: the inner steps come one
# after another, and are small. `tiny` takes 24 seconds.

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
model_dir: str = None  # folder of the meta-trained model
texts: int = None  # test dialogues a cell
facts: str = None  # facts a dialogue, separated by commas
gaps: str = None  # tokens from the last fact to the first question, separated by commas
seeds: int = None  # sets of dialogues a cell

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of test dialogues and of what is trained here
out_dir: str = None  # folder for what this run writes (default artifacts/06_memory_tests)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it
adapter_path: str = None  # PEFT folder or .pth file of an adapter; empty = one is trained here
adapter_steps: int = None  # training steps of that adapter
grid: bool = None  # the full grid: every combination, instead of one plane at a time
repeats: str = None  # times a fact is told, separated by commas
lrs: str = None  # factors of the inner learning rates, separated by commas
max_len: int = None  # longest text, in tokens; a longer one loses its beginning; 0 = no limit
corpus: str = None  # texts of section 6: installed, a file, a folder or a hub id; empty = Python's reference
text_model: str = None  # model that reads them, with its tokenizer: what 05 makes of corpus; empty = model_dir
prose_tokens: int = None  # tokens of a natural text
mqar_steps: int = None  # meta-training steps on associative recall; 0 = leave it out

# %% [markdown]
# ## Setup

# %%
import torch

from arc_helpers import arc, memory, plot, runs
from arc_helpers.texts import INSTALLED

run = runs.start_notebook("06_memory_tests", globals(), dtype="float32")
config = run.config
tokens = memory.DialogTokens()
model_folder = runs.resolve_path(config.model_dir)
model = memory.load_model(model_folder)

# %% [markdown]
# A conversation first. Two facts are told, then comes talk about nothing, then a question. Attention cannot see that far
# back; the weights have moved while the facts were read, and hold them. The curve says when they moved.

# %%
chat = memory.Chat(model, tokens)
facts = ["my friend anna lives in rome .", "i work as a gardener ."]
small_talk = ["hello !", "what a day !", "it is raining again .", "i am a little tired .", "let us talk ."]
for said in (*facts, *small_talk, "where does anna live ?", "what is my job ?"):
    print(f"     you  {said}\n   model  {chat.say(said)}")
picture = memory.plot_memory(chat.turns)
run.log.figure(picture, "conversation")
picture

# %% [markdown]
# Does it *remember*, or has it only got used to such talk? That takes tests, and something to compare with. Two twins lie
# in the same folder, of the same size, trained on the same texts: `static` for as many steps without the inner loop,
# which shows what learning at test time is worth to a model that was not trained for it, and `full` with full attention,
# a model that can look everything up; it needs 2.5 times as many steps until it does.

# %%
models = {"base": model}
for name in ("static", "full"):
    if (model_folder / name / "config.json").is_file():
        models[name] = memory.load_model(model_folder / name)
    else:
        print(f"{model_folder / name} is not there: its columns are left out")
print(f"{sum(p.numel() for p in model.parameters()) / 1e3:.0f} K parameters, reach {model.config.reach} tokens")
twins = {"untrained": "static" if "static" in models else None, "ceiling": "full" if "full" in models else None}

# %% [markdown]
# ## 1 · Out of reach, exactly
#
# Through $L$ layers with a window of $k$ tokens a token is felt at most $L(k-1)$ tokens later. We do not trust the
# formula: we change the value in a fact, and look at the loss of the answer. With learning off it must not change *at
# all*, not even in the last bit. With learning on it must.

# %%
style = memory.Style(facts=5, words="known")
text = memory.probe_texts(memory.PersonaDialogs(tokens, style, 10**6 + run.seed), 1)[0].encoded
query = text.first.index(True)  # the first answer
value = text.ids[query]
told = text.ids.index(value)
ids = torch.tensor([text.ids])
off = memory.perturbation(model, ids, told, query)
print(f"'{tokens.text([value])}' was told {query - told} tokens before it is asked for.")
print(f"told otherwise, the answer's loss changes by {off} with learning off")
assert query - told > model.config.reach and off == 0.0

# %% [markdown]
# With learning on, the same change must be felt, for the fact was written into the weights when it was read:

# %%
changed = ids.clone()
changed[0, told] = tokens.ids("tokyo")[0] if value != tokens.ids("tokyo")[0] else tokens.ids("lima")[0]
pair = memory.read(model, torch.cat([ids, changed])).nll[:, query - 1]
print(f"with learning on it goes from {pair[0]:.3f} to {pair[1]:.3f} nats")
assert pair[0] != pair[1]

# %% [markdown]
# ## 2 · Five memories, the same questions
#
# | memory | what a real memory does |
# |---|---|
# | true | the answer becomes likely |
# | off: true, but learning is off | nothing: the answer cannot be known |
# | swapped: the same people, other values | the true answer becomes *less* likely than with no memory |
# | irrelevant: facts about others | does not help |
# | shuffled: the true tokens in random order | does not help |
#
# A model that only adapts to the form of a dialogue passes the first line, and none of the others.

# %%
groups, chances = {}, {}
for name, words in runs.progress((("known words", "known"), ("words never seen", "new")), desc="memories"):
    own = memory.PersonaDialogs(tokens, memory.Style(facts=5, words=words), 10**6 + run.seed)
    scores = {}
    for condition in memory.CONDITIONS:
        probes = memory.probe_texts(own, config.texts, condition)
        memory.check_reach(model, probes)
        scores[condition] = memory.answer_scores(model, probes, learn=condition != "off")
    groups[name] = {condition: s.answer.mean() for condition, s in scores.items()}
    chances[name] = memory.chance(own.style)
    true, asked = scores["true"], int(scores["true"].answers.sum())
    low, high = arc.wilson_interval(true.recalled, asked)
    print(f"{name}: {true.recalled} of {asked} recalled exactly (95 % interval {low:.3f} to {high:.3f})")
    run.log.task(name, recalled=true.recalled, asked=asked, **groups[name])
    assert groups[name]["true"] < groups[name]["off"] < groups[name]["swapped"], "memory, and it can be misled"

# %% [markdown]
# Guessing is what somebody pays who knows all the words and has not heard the dialogue. A model that leaves answers to
# its memory can be worse than that when it has none.

# %%
picture = memory.plot_bars(groups, "nats an answer token", levels=chances, level_name="guessing")
run.log.figure(picture, "conditions")
picture

# %% [markdown]
# The share of the gain that irrelevant memory gives, one-sided: it may hurt, it must not help. The gain is measured
# against the better of learning off and guessing.

# %%
shares = {}
for name, bars in groups.items():
    reference = min(bars["off"], chances[name])
    gain = reference - bars["true"]
    shares[name] = max(0.0, reference - bars["irrelevant"]) / gain
    print(f"{name}: answer loss −{gain / reference:.1%}, of which irrelevant memory gives {shares[name]:.1%}")
    assert shares[name] < 0.05

# %% [markdown]
# ## 3 · Percent prove nothing
#
# The usual report is *loss before, loss after, so many percent better*. The static twin, which was never trained to
# learn, gets percents as well, and even recalls a part, at a rate that somebody must search for it. What it pays is in
# the last two columns: the loss over *all* tokens rises. Ours falls, at the rate that it was trained with.

# %%
own = memory.PersonaDialogs(tokens, style, 10**6 + run.seed)
probes, rates, found = memory.probe_texts(own, config.texts), (0.3, 1, 3, 10, 30), []
for name, factors in (("base", (1,)), ("static", rates if "static" in models else ())):
    before = memory.answer_scores(models[name], probes, learn=False) if factors else None
    for factor in runs.progress(factors, desc=f"rates of {name}"):
        after = memory.answer_scores(models[name], probes, lr_scale=factor)
        row = {"model": name, "lr": factor, "pre": before.answer.mean(), "post": after.answer.mean()}
        row["percent"] = 100 * (1 - row["post"] / row["pre"])
        row |= {"recall": after.recalled / after.answers.sum(), "all pre": before.everything.mean()}
        found.append(row | {"all post": after.everything.mean()})
static_best = max((row["recall"] for row in found if row["model"] == "static"), default=float("nan"))
memory.table(found, list(found[0]))

# %% [markdown]
# ## 4 · How much, for how long
#
# The grid: facts × repeats × gap × inner learning rate, every control of section 2 in each cell. Without `grid` we walk
# two planes of it. All rows go to `tasks.jsonl`.

# %%
axes = {
    "facts": memory.numbers(config.facts),
    "repeats": memory.numbers(config.repeats),
    "gap": memory.numbers(config.gaps),
    "lr": memory.numbers(config.lrs, float),
    "seed": [run.seed + i for i in range(config.seeds)],
}
options = {**twins, "max_len": config.max_len}
if config.grid:
    rows = memory.run_grid(models, tokens, config.texts, axes, **options)
else:
    planes = [{name: axes[name] for name in names} for names in (("facts", "gap", "seed"), ("repeats", "lr", "seed"))]
    rows = [row for plane in planes for row in memory.run_grid(models, tokens, config.texts, plane, **options)]
for i, row in enumerate(rows):
    run.log.task(f"cell {i}", **row)

# %% [markdown]
# `delta` is what learning takes off the answer loss, with its 95 % interval, paired over the dialogues.

# %%
shown = ["facts", "repeats", "gap", "lr", "pre", "post", "delta_low", "delta_high", "recall", "swapped", "cut"]
memory.table(rows, shown)

# %% [markdown]
# How many facts fit, and for how long? 2,500 tokens are 40 times the reach of attention, and 8 times the longest text
# that the model was trained on.

# %%
usual = {name: getattr(memory.Cell(), name) for name in ("facts", "repeats", "gap", "lr")}
if config.grid:
    usual = {name: value if value in axes[name] else axes[name][0] for name, value in usual.items()}


def plane(x, y, field):
    """A field for each (y, x), the other axes at their usual values; mean over the seeds."""
    same = [row for row in rows if all(row[name] == usual[name] for name in usual if name not in (x, y))]
    cells = [[[r[field] for r in same if r[x] == a and r[y] == b] for a in axes[x]] for b in axes[y]]
    return [[sum(cell) / len(cell) for cell in line] for line in cells]


# %% [markdown]
# Recall, the share of answers that are exactly right:

# %%
picture = memory.plot_heat_maps(
    {"recall": plane("gap", "facts", "recall")},
    axes["facts"],
    axes["gap"],
    "facts",
    "tokens since the last fact",
    high=1,
)
run.log.figure(picture, "recall_by_facts_and_gap")
picture

# %% [markdown]
# A rate that is right for answers must be right for everything else, too. The rates were trained; 1 should be best, or
# close to it.

# %%
panels = {"answer loss, learning on": plane("lr", "repeats", "post"), "all tokens": plane("lr", "repeats", "all_post")}
picture = memory.plot_heat_maps(panels, axes["repeats"], axes["lr"], "times told", "factor of the inner rates")
run.log.figure(picture, "loss_by_rate_and_repeats")
picture

# %% [markdown]
# Every number of the grid can be looked at in this way. `swapped` and `irrelevant` are the controls: where facts are
# swapped, the true answer should be *less* likely than before (`pre`).


# %%
def heat(field):
    table = {field: plane("gap", "facts", field)}
    return lambda: memory.plot_heat_maps(table, axes["facts"], axes["gap"], "facts", "tokens since the last fact")


plot.explore_pictures({field: heat(field) for field in ("pre", "post", "swapped", "irrelevant", "delta")})

# %% [markdown]
# Against the ceiling: at the length that it was trained on, the twin with full attention looks most answers up. In texts
# that are longer than those it is lost, for it has never met such positions. The memory does not count positions.

# %%
if "full" in models:
    ceilings, ours = plane("gap", "facts", "ceiling"), plane("gap", "facts", "post")
    for told, high, low in zip(axes["facts"], ceilings, ours, strict=True):
        for gap, ceiling, post in zip(axes["gap"], high, low, strict=True):
            print(f"{told} facts, gap {gap}: full attention {ceiling:.2f} nats, ours {post:.2f}")

# %% [markdown]
# ## 5 · With an adapter
#
# Fine-tuning can cost the memory (notebook 05 says why). The same test in phrasings that the base does not know, for the
# base and for an adapter: one from `adapter_path`, or a LoRA that is trained here, through the inner loop.

# %%
adapted = memory.load_model(model_folder)
if config.adapter_path:
    adapted = memory.load_adapter(adapted, runs.resolve_path(config.adapter_path)).get_base_model()
else:
    say = lambda m: print("adapter, step {step}: loss {loss:.3f}".format(**m))  # noqa: E731
    memory.train_adapter(adapted, tokens, "lora", steps=config.adapter_steps, seed=run.seed, on_metrics=say)
models["adapter"] = adapted.eval()
cells = [memory.Cell(name, wording=wording) for wording in ("trained", "held_out") for name in ("base", "adapter")]
compared = [
    memory.run_cell(cell, models, tokens, config.texts, max_len=config.max_len)
    for cell in runs.progress(cells, desc="base and adapter")
]
shown = ["model", "wording", "pre", "post", "percent", "recall", "swapped", "memory_score", "all_pre", "all_post"]
memory.table(compared, shown)

# %% [markdown]
# *Keeps* compares the relative gain of learning, in the phrasings that the adapter was trained for.

# %%
keeps = compared[3]["percent"] / compared[2]["percent"]
print(
    f"in the new phrasings learning lowers the answer loss by {compared[3]['percent']:.0f} % with the adapter, ", end=""
)
print(f"by {compared[2]['percent']:.0f} % without: it keeps {keeps:.0%} of the base's effect")
for row in compared:
    run.log.task(f"{row['model']} {row['wording']}", **row)

# %% [markdown]
# ## 6 · Where nothing has to be remembered
#
# Python's own language reference, 460 KB of English that every Python brings along, or the test documents of your `corpus`.
# The model has never seen prose: learning adapts to it, which is useful and is *not* memory. With `text_model` one reads that
# was meta-trained on such texts, in its own tokenizer (notebook 05 makes it).

# %%
reader, twin, words = model, models.get("static"), tokens
if config.text_model:
    text_folder = runs.resolve_path(config.text_model)
    reader, words = memory.load_model(text_folder), memory.text_tokens(text_folder)
    twin = memory.load_model(text_folder / "static") if (text_folder / "static").is_dir() else None
prose = memory.prose_texts(config.corpus or (config.text_model and INSTALLED))
n = config.prose_tokens
pages = memory.long_windows(words, prose, n, 8)  # [pages, n]

# %% [markdown]
# The curve says how the loss falls along a text, and beside it what plain counting does, that knows nothing but the text so
# far: how often each token came, and what followed the token before. A model that was never trained on prose has to be
# compared with these, not with itself switched off; one that was, with its twin without an inner loop.

# %%
losses = {
    "learning off": memory.text_losses(reader, pages, learn=False),
    "learning on": memory.text_losses(reader, pages),
}
if twin is not None:
    losses |= {
        f"static twin, learning {how}": memory.text_losses(twin, pages, learn=how == "on") for how in ("off", "on")
    }
counted = memory.counter_losses(pages, len(words))
losses |= {f"{name} counter": nll for name, nll in counted.items()}
curves = {name: memory.by_position(nll) for name, nll in losses.items()}
middles = [round((i + 0.5) * n / 16) for i in range(16)]
picture = plot.plot_curve(middles, curves, "nats a token", xlabel="token of the text", title="Prose")
run.log.figure(picture, "prose_by_position")
picture

# %% [markdown]
# The shipped model gets better by many percent, nothing was remembered that anybody asked for, and counting pairs does it
# better still. This is why section 2 has five memories. (Three seeds of a model that is meta-trained on real text:
# `make bench NAME=text_memory`.)

# %%
prose_off, prose_on = losses["learning off"].mean(), losses["learning on"].mean()
prose_percent = 100 * (1 - prose_on / prose_off)
print(f"{len(pages)} texts of {n} tokens, learning lowers the loss by {prose_percent:.1f} %; nats a token:")
for name, nll in losses.items():
    print(f"  {name}: {nll.mean():.3f}")

# %% [markdown]
# **A needle in prose.** One fact, then Python's language reference instead of small talk, then the question. The paper's
# own models find 3–6 % of such needles at 128,000 tokens, and its authors say that compression is their strength, not
# lossless recall.

# %%
needles, haystack = {}, tokens.ids(memory.prose_texts()[0])
for gap in (min(200, n), n):
    hay = memory.PersonaDialogs(tokens, memory.Style(facts=1, words="known", gap=gap), 10**6 + run.seed)
    probes = memory.probe_texts(hay, config.texts, prose=haystack)
    found_needles = memory.answer_scores(model, probes)
    needles[gap] = found_needles.recalled / found_needles.answers.sum()
    print(f"{gap} tokens of prose later: {found_needles.recalled} of {found_needles.answers.sum()} needles found")

# %% [markdown]
# ## 7 · Associative recall
#
# The hardest case in the smallest form: 32 random pairs, noise, then each key again. A model of its own is
# meta-trained on it here, and a static twin for as many steps, which may choose the best of four inner rates.

# %%
task, recalled = memory.MQAR(seed=run.seed), {"meta-trained": float("nan"), "static": float("nan")}
batch, asked = task.batch(10**8, 32)
for name, order, rates in (("meta-trained", 2, [1]), ("static", 0, [0.3, 1, 3, 10])) if config.mqar_steps else ():
    torch.manual_seed(run.seed)
    small = memory.TTTForCausalLM(memory.TTTConfig.preset("nano", task.vocab_size)).to(model.device)
    assert task.gap > small.config.reach
    settings = memory.MetaConfig(steps=config.mqar_steps, lr=2e-3, order=order)
    say = lambda m, name=name: m["step"] % 50 or print(f"{name}, step {m['step']}: loss {m['loss']:.3f}")  # noqa: E731
    memory.MetaTrainer(small, lambda step: task.batch(step, 8)[0], settings, on_metrics=say).run()
    tried = [memory.read(small, batch.ids, lr_scale=rate).nll[asked[:, 1:]].mean() for rate in rates]
    recalled[name] = min(tried).item()
    print(f"{name}: {recalled[name]:.3f} nats an answer (guessing: 4.159)")

# %% [markdown]
# ## Results

# %%
numbers = {f"{name} {k}".replace(" ", "_"): float(v) for name, bars in groups.items() for k, v in bars.items()}
numbers |= {"irrelevant_gain_share": max(shares.values()), "static_best_recall": float(static_best)}
numbers |= {"lowest_recall": min(row["recall"] for row in rows if row["lr"] == usual["lr"]), "adapter_keeps": keeps}
numbers |= {"prose_percent": float(prose_percent), "needles_far": float(needles[n]), "prose": float(prose_on)}
numbers |= {f"prose_{name}": float(nll.mean()) for name, nll in counted.items()}
numbers |= {"mqar": recalled["meta-trained"], "mqar_static": recalled["static"]}

# %%
summary = run.log.close(
    **{name: round(value, 4) for name, value in numbers.items()},
    cells=len(rows),
    texts_cut=sum(row["cut"] for row in rows),
    steps_refused=sum(row["skipped"] for row in rows),
)
summary

# %% [markdown]
# ## What to try next
#
# - `grid=true`: every combination, with intervals; `seeds=3` for more than one set of dialogues.
# - `max_len=300`: texts that are longer lose their beginning, which is where the facts are. Watch `cut`.
# - `adapter_path=artifacts/05_tinylora_dialog/adapter`: the adapter that notebook 05 kept.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. Reach, by counting.** In a layer with a window of $k$ tokens, token $t$ sees $t-k+1$ to $t$. Multiply $L$ such tables of 0 and 1:
# how far back does the last layer see? Compare with $L(k-1)$.

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
import numpy as np

window, layers, n_tokens = 5, 3, 40
place = np.arange(n_tokens)
back = place[:, None] - place[None]  # [n, n], how far the column lies behind the row
sees = ((back >= 0) & (back < window)).astype(int)
felt = np.linalg.matrix_power(sees, layers) > 0
print(f"{back[felt].max()} tokens; L (k − 1) = {layers * (window - 1)}")
assert back[felt].max() == layers * (window - 1)

# %% [markdown] tags=["exercise"]
# **2. The plainest rival.** Write the counter that section 6 calls *unigram*: every token of the vocabulary has been seen once before
# the text begins, and each that is read counts one more. What does the first page cost it?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
counts, nats = np.ones(len(words)), []
for token in pages[0].tolist():
    nats.append(-np.log(counts[token] / counts.sum()))  # first the price, then the lesson
    counts[token] += 1
print(f"{np.mean(nats[1:]):.3f} nats a token")
assert np.allclose(nats[1:], counted["unigram"][0])
