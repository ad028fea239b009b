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
# # 05 · A language model that learns while it reads
#
# > A small model whose weights take a step of gradient descent every 16 tokens, at test time, and so remember what
# > has left its window. Meta-trained for it, fine-tuned for dialogues with adapters of 13 to 13,000 numbers.
#
# When you have run this notebook you know
#
# - what an inner loop and an outer loop are, and what the outer gradient goes through;
# - why a model must be *trained to learn*: learning at test time alone is not memory;
# - how TinyLoRA, LoRA-XS and LoRA compare, and why an adapter should be trained through the inner loop;
# - how to talk to it, and to see that it answers out of its weights.
#
# **Time** (profile `laptop`): 7 minutes on one CPU core; an estimated 7 on a T4 and 5 on an H200: the inner steps come one
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
model_dir: str = None  # meta-trained model to go on with from section 4; empty = the one trained here
dataset: str = None  # your dialogues: a file or folder in any usual shape, or a hub id; empty = our persona dialogues
corpus: str = None  # your texts: installed, a file, a folder or a hub id, read in section 9; empty = left out
adapter: str = None  # the adapter that is kept: tinylora-13, tinylora, lora-xs or lora
meta_seconds: float = None  # time of the meta-training; 0 = no limit

# %% [markdown]
# All others are in the next cell, which is folded: click it to open it. What a run used, and where each value came from, is
# shown by the setup.

# %% jupyter={"source_hidden": true} tags=["parameters"]
seed: int = 0  # seed of weights, dialogues, texts and adapters
out_dir: str = None  # folder for what this run writes (default artifacts/05_tinylora_dialog)
fresh: bool = False  # set an earlier run in out_dir aside, instead of going on with it
model_size: str = None  # tiny, nano, small or 125m: the model that is meta-trained here
window: int = None  # tokens a layer attends to, at least ttt_batch
ttt_batch: int = None  # tokens an inner step
train_batch: int = None  # texts an outer step
micro_batch: int = None  # texts in memory at once; 0 = all of a step
objective: str = None  # stream: every token is scored; split: the first part adapts, the second is scored
second_order: bool = None  # the outer gradient goes through the inner gradients
meta_steps: int = None  # outer steps; 0 = no limit
lm_dir: str = None  # an ordinary chat model that section 8 tunes on your dialogues; empty = left out
lm_steps: int = None  # training steps of its adapter
tokenizer: str = None  # folder of a tokenizer for corpus, any of Hugging Face's; empty = one is learned on corpus
max_len: int = None  # longest dialogue, and a window of corpus, in tokens
adapters: str = None  # adapters of the size table, separated by commas
adapter_steps: int = None  # training steps of an adapter
lr: float = None  # learning rate of the adapters
texts: int = None  # test dialogues a measurement
learn_from: str = None  # whose turns the chat learns from: all, user or none
history: int = None  # last utterances that stand in every prompt of the chat

# %% [markdown]
# ## Setup

# %%
from dataclasses import replace

import torch

from arc_helpers import lm, memory, plot, runs
from arc_helpers.texts import TextError, read_dialogs, read_documents, split_dialogs

run = runs.start_notebook("05_tinylora_dialog", globals(), dtype="float32")
config = run.config
tokens = memory.DialogTokens()

# %% [markdown]
# ## 1 · Learning while reading, by hand
#
# An ordinary transformer with a sliding window forgets what has left the window. Ours has in its last block a second
# MLP whose weights $W$ are **fast**: after every $b$ tokens they take one step of gradient descent on the loss of those
# very tokens,
#
# $$W_i = W_{i-1} - \eta\, \tfrac{1}{b} \sum_{t \in \text{batch } i} \nabla \ell_t(W_{i-1}).$$
#
# So the text becomes training data, and the weights a memory of it. With 8 tokens a step, on a random model that has
# learned nothing yet, a sentence read twice:

# %%
toy = memory.new_model(tokens, run.seed, memory.Recipe(model_size="tiny", window=8, ttt_batch=8))
once = tokens.turn("user", "anna lives in rome .") + tokens.turn("assistant", "i see .")
ids = torch.tensor([once + once])  # [1, T]
reading = memory.read(toy, ids)
half = len(once)
print(f"{len(once)} tokens, twice: {reading.nll[0, : half - 1].mean():.2f} nats a token the first time, ", end="")
print(f"{reading.nll[0, half:].mean():.2f} the second; {int(reading.state.updates)} inner steps")
assert reading.nll[0, half:].mean() < reading.nll[0, : half - 1].mean()
lines = {"first time": reading.nll[0, : half - 1].tolist(), "second time": reading.nll[0, half:].tolist()}
plot.plot_curve(list(range(1, half)), lines, "nats", xlabel="token of the sentence", title="A sentence read twice")

# %% [markdown]
# Each sequence of a batch has a copy of $W$ of its own, so nobody reads anybody else's mind. Every loss is taken
# *before* the step that learns from it: no token is ever scored by weights that have seen it.

# %%
two = memory.read(toy, torch.cat([ids, torch.randint_like(ids, len(tokens))]))
print(
    "fast weights:", [tuple(w.shape) for w in two.state.weights]
)  # gate, up [B, width, hidden], down [B, hidden, width]
assert (two.nll[0] - reading.nll[0]).abs().max() <= runs.tolerance("float32")

# %% [markdown]
# ## 2 · Texts that cannot be answered without a memory
#
# Facts about people are told, small talk goes on, then questions come. Who has what is drawn anew for each dialogue,
# so an answer is in its dialogue and nowhere else. Names and values are known words or, in part of the dialogues,
# words that nobody has ever seen, spelled in syllables.

# %%
sizes = {"sliding_window": config.window, "ttt_batch": config.ttt_batch}
reach = memory.TTTConfig.preset(config.model_size, len(tokens), **sizes).reach
style = replace(memory.Recipe().style, length=config.max_len, gap=reach + 2)
dialogs = memory.PersonaDialogs(tokens, style, run.seed)
drawn = dialogs.draw(1)
for turn in drawn.told[:6] + drawn.asked[:4]:
    print(f"{turn.role:>10}  {turn.text}" + (f"   ← only memory knows: {turn.answer}" if turn.answer else ""))

# %% [markdown]
# Attention cannot help: through $L$ layers with a window of $k$ tokens, information travels at most $L(k-1)$ tokens,
# and the questions come later than that. (Notebook 06 checks this by changing a token and looking.)

# %%
model = memory.new_model(
    tokens, run.seed, memory.Recipe(model_size=config.model_size, window=config.window, ttt_batch=config.ttt_batch)
)
parameters = sum(p.numel() for p in model.parameters())
fast = sum(w.numel() for w in model.fast_weights())
print(f"{parameters / 1e3:.0f} K parameters, {fast / 1e3:.0f} K of them fast")
print(f"reach of attention: {model.config.reach} tokens; facts lie at least {style.gap} back")
assert set(model.config.layer_types) == {"sliding_attention"}

# %% [markdown]
# Texts of your own (`corpus`) are meta-trained on in section 9, by the same recipe. They are read here, so that what is wrong
# with them is said before the work: split by document, written in any tokenizer, packed.

# %%
if config.corpus:
    documents = read_documents(config.corpus)
    words = memory.text_tokens(config.tokenizer, documents.train)
    packed = memory.TextBatches(words, documents.train, config.max_len, config.train_batch, run.seed)
    unread = memory.long_windows(words, documents.test, 2 * config.max_len, config.texts)  # [n, T]
    print(documents.report)
    print(f"a vocabulary of {len(words):,}, {len(packed.stream):,} tokens to learn from, {len(unread)} test windows")

# %% [markdown]
# ## 3 · Meta-training: learning to learn
#
# The outer loop trains *everything*: the slow weights, the fast weights' starting point, and the inner learning rates.
# Its loss is the plain loss of every token, read with the inner loop running, and its gradient goes through all inner
# steps, second derivatives included (`second_order`). What comes out is a model that writes its memory well, not one
# that happens to have a memory.
#
# **Gotcha.** At the usual initial scale of 0.02 nothing is learned for a hundred steps: a fast MLP whose features
# are tiny stores nothing, so there is no memory to improve. With embeddings and fast features of order 1, the random
# model already remembers a little (section 1), and meta-training starts from there.

# %%
curve = []


def report(metrics):
    curve.append(metrics)
    run.log.metric(**metrics)
    if metrics["step"] % 50 == 0:
        print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))


# %% [markdown]
# The recipe in numbers; the same one, with more steps, made the model that ships.

# %%
recipe = memory.Recipe(
    model_size=config.model_size,
    window=config.window,
    ttt_batch=config.ttt_batch,
    rows=config.train_batch,
    micro_batch=config.micro_batch,
    steps=config.meta_steps,
    seconds=config.meta_seconds,
    style=style,
)
order = 2 if config.second_order else 1
model, result = memory.train_memory(
    tokens,
    run.seed,
    recipe,
    order=order,
    objective=config.objective,
    checkpoint=run.out_dir / "meta.pt",
    on_metrics=report,
)
print(f"{result['step']} steps in {result['seconds']:.0f} s, inner learning rates", end=" ")
print([round(lr.item(), 3) for lr in model.inner_lrs()])

# %% [markdown]
# The loss of every step, all tokens, learning on. It cannot reach 0: who has what is news whenever it is told.

# %%
picture = plot.plot_curve([m["step"] for m in curve], {"loss": [m["loss"] for m in curve]}, "nats a token")
run.log.figure(picture, "meta_training")
picture

# %% [markdown]
# The model that ships in `models/ttt-memory` was made by these very cells, with more steps (its card says how many).
# From here on we use it, unless `model_dir` is empty.

# %%
trained_here = model
model = memory.load_model(runs.resolve_path(config.model_dir)) if config.model_dir else trained_here.eval()
tests = {
    "new bindings": memory.PersonaDialogs(tokens, memory.Style(facts=5, words="known", gap=style.gap), 10**6),
    "new words": memory.PersonaDialogs(tokens, memory.Style(facts=5, words="new", gap=style.gap), 10**6),
}


def answers(model, dialogs, learn=True, condition="true"):
    """Scores of the answers to questions that lie beyond reach."""
    probes = memory.probe_texts(dialogs, config.texts, condition)
    memory.check_reach(model, probes)
    return memory.answer_scores(model, probes, learn=learn)


# %% [markdown]
# The proof in short (notebook 06 has the long one): the same questions with learning off and on. A question counts as
# recalled when every token of its answer is the most likely one.

# %%
groups = {}
for name, dialogs in tests.items():
    off, on = answers(model, dialogs, learn=False), answers(model, dialogs)
    groups[name] = {"learning off": off.answer.mean(), "learning on": on.answer.mean()}
    print(f"{name:<13} {off.answer.mean():.2f} → {on.answer.mean():.3f} nats an answer token, ", end="")
    print(f"{on.recalled} of {on.answers.sum()} answers recalled exactly (off: {off.recalled})")
    assert on.answer.mean() < off.answer.mean()
picture = memory.plot_bars(groups, "nats an answer token")
run.log.figure(picture, "recall")
picture

# %% [markdown]
# ## 4 · Dialogues: who is learned from, and who is scored
#
# Fine-tuning for dialogues has two losses over the same tokens. The *inner* loss is on all of them, for what the user
# says is what must be remembered. The *outer* loss is on what the assistant says. The chat template marks its
# tokens:

# %%
messages = [
    {"role": "user", "content": "my friend anna lives in rome ."},
    {"role": "assistant", "content": "good to know ."},
]
encoded = memory.encode_messages(tokens.tokenizer, messages)
for i, said in zip(encoded.ids, encoded.said, strict=True):
    print(f"{tokens.tokenizer.convert_ids_to_tokens(i)}{'*' if said else ''}", end=" ")
print("    (*: in the outer loss)")
try:
    memory.encode_messages(tokens.tokenizer, messages[:1])
except TextError as error:
    print("refused:", error)

# %% [markdown]
# Default data are persona dialogues in phrasings that the base has never seen. Your own take their place with `dataset`:
# JSON, JSON lines, CSV, Parquet, a folder or a hub id; `messages`, ShareGPT's `conversations`, daily_dialog's `dialog`,
# a turn a row. Rows that are no dialogues are counted and shown. One dialogue in ten is held out.

# %%
held_out_dialogs = None
if config.dataset:
    found = read_dialogs(config.dataset)
    print(found.report)
    to_learn, to_score = split_dialogs(found.dialogs, seed=run.seed)
    sizes = (config.train_batch, config.max_len)
    batches = memory.DialogBatches.of(tokens.tokenizer, to_learn, *sizes, run.seed)
    held_out_dialogs = memory.DialogBatches.of(tokens.tokenizer, to_score, *sizes)
    print(f"{batches.cut} longer than {config.max_len} tokens and cut, {len(batches.refused)} left out")
else:
    wording = memory.Style(wording="held_out", length=config.max_len, gap=style.gap)
    new_style = memory.PersonaDialogs(tokens, wording, run.seed + 100)
    batches = lambda step: memory.persona_sft(new_style, step, config.train_batch)  # noqa: E731
    print(new_style.draw(0).told[0].text, "|", new_style.draw(0).asked[0].text)
batch = batches(0)
print(f"ids {tuple(batch.ids.shape)}, {batch.scored.float().mean():.0%} of the tokens are scored")  # [B, T]

# %% [markdown]
# ## 5 · Adapters, from 13 numbers on
#
# TinyLoRA keeps only a few numbers $v_i$ of a LoRA: $W + U S (\sum_i v_i P_i) V^\top$ with frozen singular vectors and
# fixed random $P_i$; 13 of them are enough for reinforcement learning, its authors say, and too few for fine-tuning.
# LoRA-XS trains a full small matrix in the same place. All are PEFT's. None of them touches the fast weights.
#
# Each is trained twice: **through** the inner loop, and **plain**, with learning off, as one would by habit.

# %%
held_out = memory.Style(facts=5, words="known", wording="held_out", gap=style.gap)
test_style = memory.PersonaDialogs(tokens, held_out, 10**6)


def base_again():
    """The base again, without any adapter."""
    copy = memory.TTTForCausalLM(model.config).to(model.device)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def measured(name, way, base, numbers=0):
    off, on = answers(base, test_style, learn=False), answers(base, test_style)
    row = {"adapter": name, "trained": way, "numbers": numbers, "off": off.answer.mean(), "on": on.answer.mean()}
    row |= {"recall": on.recalled / on.answers.sum(), "all tokens": on.everything.mean() - off.everything.mean()}
    if held_out_dialogs:
        row["held-out perplexity"] = memory.said_loss(base, held_out_dialogs).perplexity
    run.log.task(f"{name} {way}", **row)
    return row


# %% [markdown]
# First the base itself in the new phrasings, then every adapter, both ways, the same data and as many steps.

# %%
rows = [measured("none", "–", model)]
options = {"steps": config.adapter_steps, "lr": config.lr, "seed": run.seed, "batches": batches}
for kind in runs.progress(config.adapters.split(","), desc="adapters"):
    for way, adapter_order in (("plain", 0), ("loop", order)):
        base = base_again()
        wrapped = memory.train_adapter(base, tokens, kind, order=adapter_order, **options)
        rows.append(measured(kind, way, base, memory.trainable(wrapped)))
memory.table(rows, list(rows[0]))

# %% [markdown]
# `off` and `on` are nats an answer token, in the new phrasings. `all tokens` is what learning changes in the loss of
# everything that is said: below 0 it helps, above 0 it hurts. With `dataset`, the last column is the perplexity of what
# the assistant says in dialogues that were held out. An adapter that was trained plain is fitted to weights
# that will not stay as they are.

# %%
bars = {f"{row['adapter']}\n{row['trained']}": {"off": row["off"], "on": row["on"]} for row in rows}
picture = memory.plot_bars(bars, "nats an answer token")
run.log.figure(picture, "adapters")
picture

# %% [markdown]
# ## 6 · Kept as a PEFT folder
#
# The adapter that is kept is trained through the loop. A file beside PEFT's says which base it belongs to, and another
# base is refused in one line.

# %%
base = base_again()
wrapped = memory.train_adapter(base, tokens, config.adapter, order=order, **options)
folder = memory.save_adapter(wrapped, run.out_dir / "adapter")
loaded = memory.load_adapter(base_again(), folder).get_base_model()
check = batch.ids[:2]
difference = (memory.read(loaded, check).nll - memory.read(base, check).nll).abs().max().item()
assert difference <= runs.tolerance("float32")
print(f"{sum(f.stat().st_size for f in folder.iterdir()) / 1024:.0f} KB in {folder}; loaded, it reads the same")
try:
    memory.load_adapter(memory.new_model(tokens, seed=99), folder)
except memory.AdapterError as error:
    print("refused:", error)

# %% [markdown]
# ## 7 · A conversation
#
# The last five utterances stand in every prompt (`history`); what is older is in the fast weights alone. An inner step is
# taken each time 16 more tokens are known, in your turns and in its own (`learn_from`). First the facts, then talk about nothing until
# they are far out of reach, then the questions.

# %%
chat = memory.Chat(model, tokens, learn_from=config.learn_from, history=config.history)
facts = {"my friend anna lives in rome .": ("where does anna live ?", "rome")}
facts["victor likes to drink cocoa ."] = ("what does victor like to drink ?", "cocoa")
facts["i work as a gardener ."] = ("what is my job ?", "gardener")
small_talk = ["hello !", "what a day !", "it is raining again .", "i am a little tired .", "let us talk ."]
for said in [*facts, *small_talk, "the coffee is cold .", "that was funny ."]:
    print(f"     you  {said}\n   model  {chat.say(said)}")
print(chat.memory)

# %% [markdown]
# Everything is out of its window now. The questions:

# %%
remembered = 0
for question, value in facts.values():
    reply = chat.say(question)
    remembered += value in reply
    print(f"     you  {question}\n   model  {reply}")
print(f"{remembered} of {len(facts)} remembered")
if config.model_dir == "models/ttt-memory" and config.learn_from == "all":
    assert remembered == len(facts)

# %% [markdown]
# What each turn has written, as the distance of the fast weights from where they began. Nobody tells the model what will
# be asked. But what it expects has a small gradient: meta-trained on such talk, it writes facts and hardly any small
# talk. (An inner step is taken every 16 tokens, so a turn is often written with the next one.)

# %%
picture = memory.plot_memory(chat.turns)
run.log.figure(picture, "memory_by_turn")
after = [0.0, *(turn.moved for turn in chat.turns)]  # by turn
told, talked = len(facts) + 1, len(facts) + len(small_talk) + 2
print(f"facts have moved it by {after[told]:.2f}, small talk by {after[talked] - after[told]:.2f} more")
if config.model_dir == "models/ttt-memory" and config.learn_from == "all":
    assert after[told] > 5 * (after[talked] - after[told])
memory.explore_memory(chat)

# %% [markdown]
# The memory is one small file. A new conversation that takes it up knows what was told in the old one; one that does
# not, does not.

# %%
chat.save(run.out_dir / "memory.safetensors")
size = (run.out_dir / "memory.safetensors").stat().st_size
later, blank = memory.Chat(model, tokens), memory.Chat(model, tokens)
later.load(run.out_dir / "memory.safetensors")
question, value = facts["my friend anna lives in rome ."]
print(f"a file of {size / 1024:.0f} KB")
print("with the memory:", later.say(question))
print("without it:     ", blank.say(question))

# %% [markdown]
# In a live notebook, talk to it yourself (`/memory`, `/save FILE`, `/load FILE`, `/forget`), and see below what your turn
# has written. On the command line: `python -m arc_helpers chat`, with `--adapter-path` for the adapter of section 6.

# %%
memory.chat_widget(chat)

# %% [markdown]
# ## 8 · Your dialogues, and a language model that can speak
#
# The same with an ordinary chat model, for instance `lm_dir=models/smollm2-135m` (one command makes it:
# `python -m arc_helpers models get smollm2-135m`) and `dataset=my_dialogues.jsonl`. Its own chat template writes the
# dialogues, the assistant's turns alone are learned, and held-out dialogues say what it brought.

# %%
sft = {}
if config.lm_dir and config.dataset:
    speaker, lm_folder = memory.open_plain(runs.resolve_path(config.lm_dir)), run.out_dir / "lm_adapter"
    words = lm.open_tokenizer(config.lm_dir)
    learned = memory.DialogBatches.of(words, to_learn, config.train_batch, config.max_len, run.seed)
    scored = memory.DialogBatches.of(words, to_score, config.train_batch, config.max_len)
    before = memory.said_loss(speaker, scored, desc="base")
    say = lambda m: m["step"] % 10 or print(m)  # noqa: E731
    tuned = memory.train_on_dialogs(speaker, learned, config.adapter, steps=config.lm_steps, on_metrics=say)
    after = memory.said_loss(tuned.get_base_model(), scored, desc="tuned")
    gain, low, high = before.gain(after)
    sft = {"ppl_base": before.perplexity, "ppl_tuned": after.perplexity, "gain": gain, "low": low, "high": high}
    print(f"held-out perplexity {before.perplexity:.2f} → {after.perplexity:.2f}; {gain:.3f} nats a token saved")
    print(f"(95 % interval {low:.3f} to {high:.3f}, {len(scored.rows)} dialogues)")
    print(f"python -m arc_helpers chat --model {config.lm_dir} --adapter {memory.save_adapter(tuned, lm_folder)}")
else:
    print("left out: it takes lm_dir and dataset")

# %% [markdown]
# ## 9 · Your texts, any tokenizer
#
# Nothing in the recipe knows persona dialogues. With `corpus=my_texts` (text files, JSON lines, CSV, Parquet, a folder, a hub
# id; `installed`: the documentation of Python and two packages) and, if you like, `tokenizer=models/smollm2-135m`, the
# same model is meta-trained on them. Its rival is the window alone: the same model without an inner loop, for as long.

# %%
read_by = {}
for name, inner in (("ttt", order), ("window", 0)) if config.corpus else ():
    reader, _ = memory.train_memory(
        words,
        run.seed,
        recipe,
        order=inner,
        objective=config.objective,
        batches=packed,
        checkpoint=run.out_dir / f"text_{name}.pt",
        on_metrics=lambda m, name=name: m["step"] % 50 or print(f"{name}: step {m['step']}, loss {m['loss']:.3f}"),
    )
    read_by[name] = memory.text_losses(reader, unread, learn=name == "ttt")  # [n, T − 1]
    memory.save_model(reader, words, run.out_dir / "text_model" / ("" if name == "ttt" else "static"))

# %% [markdown]
# Test documents, twice as long as anything in training, by position. Beside them counters that know nothing but the text so
# far. What counts is the difference beyond the reach of attention, with its interval over the windows.

# %%
texts_found = {}
if read_by:
    lines = read_by | memory.counter_losses(unread, len(words))
    curves = {name: memory.by_position(nll) for name, nll in lines.items()}
    middles = [round((i + 0.5) * unread.shape[1] / 16) for i in range(16)]
    picture = plot.plot_curve(middles, curves, "nats a token", xlabel="token of the text", title="Unread texts")
    run.log.figure(picture, "texts_by_position")
    gain = (read_by["window"] - read_by["ttt"])[:, reach:].mean(axis=1)
    low, high = memory.bootstrap(gain, run.seed)
    texts_found = {"gain": gain.mean(), "low": low, "high": high}
    print(f"beyond token {reach} learning saves {gain.mean():.3f} nats a token (95 % interval {low:.3f} to {high:.3f})")
    print(f"python -m arc_helpers run 06 text_model={run.out_dir / 'text_model'} corpus={config.corpus}")
else:
    print("left out: it takes corpus")
picture if read_by else None

# %% [markdown]
# ## Results

# %%
best = {f"{row['adapter']}_{row['trained']}": row for row in rows[1:]}
summary = run.log.close(
    parameters=parameters,
    meta_steps=result["step"],
    meta_seconds=round(result["seconds"], 1),
    meta_loss=round(curve[-1]["loss"], 4),
    steps_refused=result["skipped"],
    remembered=remembered,
    adapter_folder=str(folder),
    **{f"lm_{name}": round(value, 4) for name, value in sft.items()},
    **{f"texts_{name}": round(float(value), 4) for name, value in texts_found.items()},
    **{f"recall_{name.replace('-', '_')}": round(float(row["recall"]), 4) for name, row in best.items()},
    **{
        f"{name.replace(' ', '_')}_{k.split()[1]}": round(float(v), 4)
        for name, g in groups.items()
        for k, v in g.items()
    },
)
summary

# %% [markdown]
# ## What to try next
#
# - `second_order=false`: the inner gradients are constants to the outer loop. Cheaper, and how much worse?
# - `model_dir=""`: everything with the model that was trained here.
# - Notebook 06: is it memory, or has the model only got used to how dialogues go?

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# The cell below each question is a solution, folded: try first, in a cell of your own, then open it.
#
# **1. The right rate.** A linear memory $W = 0$ takes one step on $\tfrac{1}{2}\|W k - v\|^2$. At which rate does it then answer
# $k$ with exactly $v$? What happens at twice that rate?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
key, value = torch.randn(8), torch.randn(4)
W = torch.zeros(4, 8, requires_grad=True)
(slope,) = torch.autograd.grad((W @ key - value).square().sum() / 2, W)
for factor in (0.5, 1, 2):
    stepped = W.detach() - factor / key.square().sum() * slope
    wrong = (stepped @ key - value).norm() / value.norm()
    print(f"{factor} / |k|²: {wrong:.2f} of the value is wrong")
    assert abs(wrong - abs(1 - factor)) < runs.tolerance(wrong.dtype)  # at twice the rate as wrong as without

# %% [markdown] tags=["exercise"]
# **2. She has moved.** Tell the model that Anna lives in Rome, talk about nothing, tell it that she lives in Lima, talk again, and
# ask. A notebook would hold both lines. What do weights hold?

# %% jupyter={"source_hidden": true} tags=["solution", "teaching"]
moved = memory.Chat(model, tokens, learn_from=config.learn_from, history=config.history)
for city in ("rome", "lima"):
    for said in (f"my friend anna lives in {city} .", *small_talk):
        moved.say(said)
print(moved.say("where does anna live ?"))
# One place for one key: a gradient step on the second fact takes the first back, as far as both share a direction.
