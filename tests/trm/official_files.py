"""Files in the published layout and a plain evaluation, written from their description, not with the product's code."""

import json
from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F

TURNS = [
    lambda g: g,
    lambda g: np.rot90(g, 1),
    lambda g: np.rot90(g, 2),
    lambda g: np.rot90(g, 3),
    np.fliplr,
    np.flipud,
    lambda g: g.T,
    lambda g: np.fliplr(np.rot90(g, 1)),
]
BACK = [0, 3, 2, 1, 4, 5, 6, 7]


def augmented(name, grid):
    """A grid as the task of this name shows it."""
    if "|||" not in name:
        return np.array(grid)
    _, turn, colors = name.split("|||")
    return TURNS[int(turn[1:])](np.array([int(c) for c in colors])[np.array(grid)])


def restored(name, grid):
    if "|||" not in name:
        return grid
    _, turn, colors = name.split("|||")
    return np.argsort([int(c) for c in colors])[TURNS[BACK[int(turn[1:])]](grid)]


def canvas(grid, row=0, column=0):
    sheet = np.zeros((31, 31), dtype=np.uint8)
    height, width = grid.shape
    sheet[row : row + height, column : column + width] = grid + 2
    sheet[row + height, column : column + width] = 1
    sheet[row : row + height, column + width] = 1
    return sheet[:30, :30].ravel()


def write_folder(folder, training, scored, num_aug, seed=0):
    """training, scored: {id: {"train", "test"}} as in ARC's files. Returns the names of identifiers.json."""
    rng = np.random.default_rng(seed)
    names, splits = ["<blank>"], {"train": [], "test": []}
    for task_id, task in {**scored, **training}.items():
        mine = [task_id]
        while len(mine) <= num_aug:
            colors = "0" + "".join(str(1 + c) for c in rng.permutation(9))
            mine.append(f"{task_id}|||t{rng.integers(8)}|||{colors}")
        first = len(names)
        names += mine
        shown = task["train"] + (task["test"] if task_id in training else [])
        splits["train"].append([(first + i, name, shown) for i, name in enumerate(mine)])
        if task_id in scored:
            splits["test"].append([(first + i, name, task["test"]) for i, name in enumerate(mine)])
    for split, groups in splits.items():
        arrays = {"inputs": [], "labels": [], "puzzle_identifiers": [], "puzzle_indices": [0], "group_indices": [0]}
        for group in groups:
            for row, name, pairs in group:
                for i, pair in enumerate(pairs):
                    grids = [augmented(name, pair[kind]) for kind in ("input", "output")]
                    free = 30 - np.max([g.shape for g in grids], axis=0)
                    place = rng.integers(free + 1) if split == "train" and i else (0, 0)
                    arrays["inputs"].append(canvas(grids[0], *place))
                    arrays["labels"].append(canvas(grids[1], *place))
                arrays["puzzle_identifiers"].append(row)
                arrays["puzzle_indices"].append(len(arrays["inputs"]))
            arrays["group_indices"].append(len(arrays["puzzle_identifiers"]))
        (folder / split).mkdir(parents=True)
        for kind, values in arrays.items():
            array = np.stack(values) if kind in ("inputs", "labels") else np.array(values, dtype=np.int32)
            np.save(folder / split / f"all__{kind}.npy", array)
        head = {"pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": 12, "seq_len": 900}
        head |= {"num_puzzle_identifiers": len(names), "sets": ["all"], "total_groups": len(groups)}
        (folder / split / "dataset.json").write_text(json.dumps(head))
    (folder / "identifiers.json").write_text(json.dumps(names))
    (folder / "test_puzzles.json").write_text(json.dumps(scored))
    return names


def official_weights(rows, width=16, heads=2, inner=48, blocks=2, prefix="_orig_mod.model.", seed=0):
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return scale * torch.randn(shape, generator=generator)

    tensors = {
        "H_init": draw(width),
        "L_init": draw(width),
        "embed_tokens.embedding_weight": draw(12, width, scale=width**-0.5),
        "lm_head.weight": draw(12, width),
        "q_head.weight": draw(2, width, scale=0.5),
        "q_head.bias": draw(2),
        "puzzle_emb.weights": draw(rows, width, scale=0.5),
    }
    for i in range(blocks):
        tensors |= {
            f"L_level.layers.{i}.self_attn.qkv_proj.weight": draw(3 * width, width, scale=width**-0.5),
            f"L_level.layers.{i}.self_attn.o_proj.weight": draw(width, width, scale=width**-0.5),
            f"L_level.layers.{i}.mlp.gate_up_proj.weight": draw(2 * inner, width, scale=width**-0.5),
            f"L_level.layers.{i}.mlp.down_proj.weight": draw(width, inner, scale=inner**-0.5),
        }
    return {f"{prefix}inner.{name}": tensor for name, tensor in tensors.items()}


def plain_logits(weights, inputs, rows, arch):
    """The published forward in float64, after the last segment: logits [B, 900, 12] and halting logits [B]."""
    w = {name.split("inner.", 1)[1]: tensor.double() for name, tensor in weights.items()}
    width, heads = w["H_init"].shape[0], arch["num_heads"]
    prefix = torch.zeros(len(rows), arch["puzzle_emb_len"], width, dtype=torch.float64)
    prefix[:, 0] = w["puzzle_emb.weights"][rows]
    x = width**0.5 * torch.cat([prefix, w["embed_tokens.embedding_weight"][inputs]], dim=1)
    length, size = x.shape[1], width // heads
    angle = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(0, size, 2).double() / size)
    cos, sin = (torch.cat([f(angle)] * 2, dim=-1)[:, None] for f in (torch.cos, torch.sin))

    def turned(t):
        half = torch.cat([-t[..., size // 2 :], t[..., : size // 2]], dim=-1)
        return t * cos + half * sin

    def norm(t):
        return t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    def net(h):
        for i in range(arch["blocks"]):
            p = f"L_level.layers.{i}."
            q, k, v = (h @ w[p + "self_attn.qkv_proj.weight"].T).unflatten(-1, (3 * heads, size)).split(heads, dim=2)
            q, k, v = (t.transpose(1, 2) for t in (turned(q), turned(k), v))
            mixed = torch.softmax(q @ k.transpose(-1, -2) / size**0.5, dim=-1) @ v
            h = norm(h + mixed.transpose(1, 2).flatten(2) @ w[p + "self_attn.o_proj.weight"].T)
            gate, up = (h @ w[p + "mlp.gate_up_proj.weight"].T).chunk(2, dim=-1)
            h = norm(h + (F.silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T)
        return h

    z_H, z_L = (w[name].expand_as(x) for name in ("H_init", "L_init"))
    for _ in range(arch["halt_max_steps"] * arch["H_cycles"]):
        for _ in range(arch["L_cycles"]):
            z_L = net(z_L + z_H + x)
        z_H = net(z_H + z_L)
    logits = z_H[:, arch["puzzle_emb_len"] :] @ w["lm_head.weight"].T
    return logits, (z_H[:, 0] @ w["q_head.weight"].T + w["q_head.bias"])[:, 0]


def cropped(tokens):
    """The largest rectangle of colours at the top left, cell by cell."""
    sheet, best, size = tokens.reshape(30, 30), 0, (0, 0)
    columns = 30
    for row in range(30):
        for column in range(columns):
            if not 2 <= sheet[row, column] <= 11:
                columns = column
                break
        if (row + 1) * columns > best:
            best, size = (row + 1) * columns, (row + 1, columns)
    return sheet[: size[0], : size[1]] - 2


def plain_votes(folder, weights, arch):
    """{(task, bytes of the test input): [(answer, votes), …]}, ranked by votes, then by mean confidence."""
    names = json.loads((folder / "identifiers.json").read_text())
    inputs = torch.from_numpy(np.load(folder / "test/all__inputs.npy").astype(np.int64))
    starts = np.load(folder / "test/all__puzzle_indices.npy")
    rows = np.repeat(np.load(folder / "test/all__puzzle_identifiers.npy"), np.diff(starts))
    logits, halt = plain_logits(weights, inputs, torch.from_numpy(rows).long(), arch)
    counted = defaultdict(lambda: defaultdict(list))
    for row, question, answer, q in zip(rows, inputs.numpy(), logits.argmax(-1).numpy(), halt.sigmoid(), strict=True):
        name = names[row]
        asked = restored(name, cropped(question))
        given = restored(name, cropped(answer))
        counted[name.split("|||")[0], str(asked.tolist())][str(given.tolist())].append(float(q))
    return {
        key: sorted(((a, len(q)) for a, q in answers.items()), key=lambda v: (-v[1], -np.mean(answers[v[0]])))
        for key, answers in counted.items()
    }, logits
