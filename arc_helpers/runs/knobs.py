"""Every knob of every notebook: type, bounds and meaning. Their values are in configs/<profile>.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

PROFILES = ("tiny", "laptop", "gpu", "kaggle")

# None means "the profile's value" in a notebook, so that 0 and "" are what lifts a limit that a profile sets.
Limit = Annotated[int | None, Field(ge=0), AfterValidator(lambda value: value or None)]
Seconds = Annotated[float | None, Field(ge=0), AfterValidator(lambda value: value or None)]
Quantization = Literal["none", "4bit", "4bit-fp4"]
PromptForm = Literal["auto", "suite", "architects", "nvarc"]
Text = Annotated[str | None, AfterValidator(lambda value: value or None)]
Positive = Annotated[int, Field(ge=1)]


class Knobs(BaseModel):
    """What the knobs of every notebook have in common: no default hides in the code, no typo passes.

    inputs: knobs that name what is read. reader: a function that reads it, `module:name`, from the config to the
    (about, text, bad) of what it finds. may_change: knobs that a run that goes on may be given other values of.
    goes_on: a run that has ended, too, goes on where it is started again, say with more time. kept: what of a run
    that was stopped is not done again; empty: nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    inputs: ClassVar[tuple[str, ...]] = ()
    reader: ClassVar[str] = ""
    may_change: ClassVar[frozenset[str]] = frozenset()
    goes_on: ClassVar[bool] = False
    kept: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # a value of `preset`: what it sets in place of the profile
    scales_loss: ClassVar[bool] = False  # with `autocast`, it can train in float16

    @field_validator("*", mode="before")
    @classmethod
    def _plain_value(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and (int in kinds or float in kinds):  # Python takes True for 1
            raise PydanticCustomError("number_expected", "must be a number, not true or false")
        return str(value) if isinstance(value, Path) else value


class RunKnobs(Knobs):
    """What every notebook has besides the knobs of its profile."""

    profile: Literal[PROFILES] = "laptop"  # type: ignore[valid-type]  # pydantic reads the tuple
    seed: int = Field(default=0, ge=0, lt=2**32)
    out_dir: Text = None
    fresh: bool = False


class BaseModelKnobs(Knobs):
    """00_base_model: train the embedded model, or make a language model an ARC model."""

    inputs = ("base", "arc_training", "re_arc", "concept_arc")
    reader = "arc_helpers.arc.check:training"
    may_change = frozenset({"deadline_seconds", "max_steps", "micro_tokens", "compile", "out_model", "merge"})
    goes_on = True
    kept = "its last checkpoint"

    base: Text = Field(description="folder of a language model to fine-tune by LoRA; empty = grow a GridLM")
    prompt_form: PromptForm = Field(description="how tasks are spelled to that base; auto = as it was trained")
    quantization: Quantization = Field(description="how that base is loaded")
    r: Positive = Field(description="rank of its LoRA")
    alpha: float = Field(gt=0, description="scale of its LoRA: alpha / r, or alpha / √r with use_rslora")
    use_rslora: bool = Field(description="rank-stabilised scale")
    target_modules: Text = Field(description="linear layers with a LoRA, separated by commas; empty = all")
    train_rows: bool = Field(description="train embedding and head rows of the tokens in use, too")
    checkpointing: bool = Field(description="compute the base's layers again in the backward pass, to save memory")
    lr_lora: float = Field(gt=0, description="learning rate of its LoRA and rows (AdamW)")
    merge: bool = Field(description="also write the base with the LoRA merged in, to out_model + '-merged'")
    preset: Literal["tiny", "nano", "micro", "base", "large"] = Field(description="size of the model")
    arc_training: str = Field(description="set name, folder or file of ARC tasks to train on")
    re_arc: Text = Field(description="RE-ARC file; empty = do without")
    concept_arc: Text = Field(description="ConceptARC file; empty = do without")
    procedural_share: float = Field(ge=0, le=1, description="share of training tasks made by our generators")
    pair_share: float = Field(ge=0, le=1, description="share of documents that are one pair alone")
    enlarge_share: float = Field(ge=0, le=1, description="share of documents that are upscaled and get a margin")
    max_side: int = Field(ge=1, le=30, description="largest grid side trained on, in cells")
    max_len: int = Field(ge=16, description="context, in tokens")
    curriculum: Text = Field(description="smaller first: share:max_side:max_len, …; empty = all sizes from the start")
    batch_tokens: int = Field(ge=16, description="tokens a training step")
    micro_tokens: Limit = Field(description="tokens of one forward, gradients are summed up to a step; 0 = all")
    pack: bool = Field(description="several documents in a row of fixed length, instead of padding")
    compile: bool = Field(description="torch.compile the model, where that works")
    deadline_seconds: Seconds = Field(description="wall-clock budget of the run; 0 = no limit")
    max_steps: Limit = Field(description="most training steps; 0 = no limit")
    autocast: bool = Field(description="bfloat16 matrix products, for devices where they are real")
    lr_muon: float = Field(gt=0, description="learning rate of the matrices (Muon)")
    lr_adamw: float = Field(gt=0, description="learning rate of everything else (AdamW)")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    out_model: Text = Field(description="folder the trained model is written to; empty = model/ in out_dir")


class TokenizationDebugKnobs(Knobs):
    """01_tokenization_debug: what the model sees of one pseudo-task."""

    inputs = ("model_dir", "problem_path")
    reader = "arc_helpers.arc.check:problem"

    model_dir: str = Field(min_length=1, description="Hugging Face folder of the model")
    prompt_form: PromptForm = Field(description="how tasks are spelled; auto = as the model was trained")
    problem_path: str = Field(min_length=1, description="set name, task file or folder of tasks")
    task_id: Text = Field(description="which of its tasks; empty = the first")
    num_pseudo: Positive = Field(description="pseudo-tasks made from the task")
    pseudo_index: int = Field(ge=0, description="the one that is shown, from 0")
    max_len: int = Field(ge=16, description="longest sequence, in tokens")
    max_tokens_show: Positive = Field(description="rows of the token table")


class MultiloraTttKnobs(Knobs):
    """02_multilora_ttt: test-time training, K adapters at once."""

    inputs = ("model_dir", "start_adapter", "data_dir")
    kept = "the groups of tasks that are done, and the last checkpoint of joint training"
    reader = "arc_helpers.arc.check:tasks"
    may_change = frozenset(
        {
            *{"deadline_seconds", "workers", "ray_address", "solutions", "control", "frontier", "watch"},
            *{"tokens_at_once", "activation_checkpointing"},
        }
    )

    model_dir: str = Field(min_length=1, description="folder of the base model, or of an adapter that names its base")
    start_adapter: Text = Field(description="PEFT folder of an adapter that the base starts from; empty = none")
    prompt_form: PromptForm = Field(description="how tasks are spelled; auto = as the model was trained")
    data_dir: str = Field(min_length=1, description="set name, folder or challenges file of the tasks")
    solutions: Text = Field(description="Kaggle solutions file; empty = none")
    task_ids: Text = Field(description="only these tasks, ids separated by commas; empty = all")
    max_tasks: Limit = Field(description="most tasks; 0 = all")
    max_side: Limit = Field(description="only tasks whose visible grids fit this side, in cells; 0 = all")
    mode: Literal["head", "top_m", "full"] = Field(description="depth: last hidden state, last layers, every layer")
    top_m: Limit = Field(description='layers that adapt in mode "top_m", the last ones; 0 = a quarter of them')
    k: Positive = Field(description="tasks trained at once, one adapter each")
    steps: int = Field(ge=0, description="training steps a group; 0 = no training")
    num_pseudo: Positive = Field(description="pseudo-tasks a task")
    r: Positive = Field(description="rank of an adapter")
    alpha: float = Field(gt=0, description="scale of an adapter: its output is multiplied by alpha / r")
    use_rslora: bool = Field(description="multiply it by alpha / √r instead (rsLoRA)")
    target_modules: Text = Field(description="layers that adapt, such as q_proj,lm_head; empty = all linear ones")
    lr: float = Field(gt=0, description="learning rate")
    joint_steps: int = Field(ge=0, description="steps in which a copy of the base learns all tasks at once; 0 = none")
    form: Literal["in_context", "pairs", "both"] = Field(description="how a task is put: demonstrations, single pairs")
    patience: Limit = Field(description="steps without a new lowest mean loss of a round that end a training; 0 = all")
    grouping: Literal["length", "size", "palette", "family", "random"] = Field(description="what a group's tasks share")
    group_tokens: Limit = Field(description="padded tokens that a group may have; 0 = no limit")
    tokens_at_once: Positive | None = Field(description="padded tokens through the model at once; null = what fits")
    activation_checkpointing: Literal["auto", "on", "off"] = Field(description="compute layers again to save memory")
    views: int = Field(ge=1, le=16, description="augmented views that vote")
    strategy: Literal["greedy", "beam", "dfs"] = Field(description="decoding: one answer a view, a beam, or a search")
    min_prob: float = Field(gt=0, lt=1, description="dfs: every answer that is at least as likely")
    select: Literal["votes", "product"] = Field(description="rank answers by votes, or by a product of experts")
    control: bool = Field(description="also answer without training, to compare with")
    frontier: int = Field(ge=0, description="tasks that the depths are compared on before the run; 0 = none")
    watch: int = Field(ge=0, description="answers shown of one task while it is learned, after the run; 0 = none")
    max_len: int = Field(ge=16, description="longest sequence, in tokens")
    quantization: Quantization = Field(description="how the base model is loaded")
    cache_gib: float = Field(ge=0, description="memory that keeps what frozen layers compute, in GiB")
    cache_disk_gib: float = Field(ge=0, description="disk that keeps what memory does not, in GiB")
    workers: Positive = Field(description="devices that solve groups; from 2 on by Ray")
    ray_address: Text = Field(description="a running Ray cluster; empty = this machine")
    deadline_seconds: Seconds = Field(description="wall-clock budget of the run; 0 = no limit")
    trust_remote_code: bool = Field(description="run Python code found in the model folder")

    @field_validator("form")
    @classmethod
    def _has_task_tokens(cls, form: str, info: ValidationInfo) -> str:
        if form != "in_context" and not info.data.get("joint_steps"):  # a task's token is learned in joint training
            raise PydanticCustomError("form_needs_joint", "must be in_context where joint_steps = 0")
        return form


#: the ARC commands and configs of SamsungSAILMontreal/TinyRecursiveModels, e7b6871, where they are not the model's own
PUBLISHED_TRM: Mapping[str, Any] = {
    **{"subsets": "training,evaluation,concept", "num_aug": 1000, "max_side": 30, "layout": "official"},
    **{"augment": "listed", "conditioning": "identifier", "translate": 0.75},  # there: all pairs of a puzzle but one
    **{"H_cycles": 3, "L_cycles": 4, "halt_max_steps": 16, "halt_exploration": 0.1},
    **{"optimizer": "adam_atan2", "lr": 1e-4, "weight_decay": 0.1, "warmup_steps": 2000, "min_lr_ratio": 1.0},
    **{"tables_by": "signsgd", "lr_tasks": 1e-2, "weight_decay_tasks": 0.1, "max_grad_norm": 0.0, "ema_decay": 0.999},
    **{"batch_tokens": 768 * 916, "autocast": True, "deadline_seconds": 0, "max_steps": 0, "epochs": 100_000},
    **{"keep_every": 5000, "views": 1001, "segments": 16},
}


class TrmPretrainKnobs(Knobs):
    """03_trm_pretrain: the Tiny Recursive Model, on Sudoku and on ARC."""

    scales_loss = True
    presets = {"published": PUBLISHED_TRM}
    inputs = ("source", "data", "checkpoint")
    reader = "arc_helpers.arc.check:subsets"
    may_change = frozenset(
        {"deadline_seconds", "max_steps", "epochs", "keep_every", "wandb", "out_model", "views", "segments"}
    )
    goes_on = True
    kept = "the last checkpoint of its training on ARC"

    data: Text = Field(description="built data folder, published layout or ours; empty = one is built from source")
    checkpoint: Text = Field(description="trained TRM to answer with, published or ours; empty = one is trained")
    source: str = Field(min_length=1, description="set or folder that has the subsets")
    subsets: str = Field(min_length=1, description="subsets to learn from, separated by commas; concept = ConceptARC")
    test_set_name: str = Field(min_length=1, description="the subset that is answered")
    num_aug: int = Field(ge=0, description="listed augmentations a task")
    max_side: int = Field(ge=1, le=30, description="largest grid side, in cells")
    layout: Literal["official", "buckets", "tight"] = Field(description="canvases")
    augment: Literal["symmetries", "colors", "listed"] = Field(description="what examples are augmented by")
    translate: float = Field(ge=0, le=1, description="share of the examples that is moved to a random place")
    conditioning: Literal["shared", "identifier"] = Field(description="task vectors, or one an augmentation")
    preset: Literal["published", "tiny", "small", "compact"] = Field(
        description="the ARC model; published sets what trains it, too"
    )
    hidden_size: Limit = Field(description="width of the ARC model; 0 = the preset's")
    H_cycles: Limit = Field(description="cycles of a segment; 0 = the preset's")
    L_cycles: Limit = Field(description="updates of z_L a cycle; 0 = the preset's")
    halt_max_steps: Limit = Field(description="most segments of an example; 0 = the preset's")
    halt_exploration: float = Field(ge=0, le=1, description="probability of a drawn smallest number of segments")
    optimizer: Literal["muon", "adamw", "adam_atan2"] = Field(description="optimizer of the network")
    tables_by: Literal["adam", "signsgd"] = Field(description="optimizer of the task vectors")
    lr: float = Field(gt=0, description="learning rate of embedding and heads")
    lr_matrices: float = Field(gt=0, description="learning rate of the matrices (Muon)")
    lr_tasks: float = Field(gt=0, description="learning rate of the task vectors")
    weight_decay: float = Field(ge=0, description="weight decay of the network")
    weight_decay_tasks: float = Field(ge=0, description="weight decay of the task vectors")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    min_lr_ratio: float = Field(ge=0, le=1, description="where the cosine behind it ends; 1 = a constant rate")
    max_grad_norm: float = Field(ge=0, description="longest gradient; 0 = no clipping")
    ema_decay: float = Field(ge=0, lt=1, description="decay of the averaged weights")
    batch_tokens: int = Field(ge=64, description="positions a training step")
    micro_tokens: int = Field(ge=0, description="positions at once, gradients summed; 0 = all of a step's")
    autocast: bool = Field(description="bfloat16 products, where the device has them; float16 on a GPU without")
    compile: bool = Field(description="torch.compile of the blocks")
    deadline_seconds: Seconds = Field(description="wall-clock budget of the run; 0 = no limit")
    max_steps: Limit = Field(description="training steps on ARC; 0 = no limit")
    epochs: Seconds = Field(description="passes over all pairs, one augmentation each; 0 = no limit")
    keep_every: int = Field(ge=0, description="steps after which a checkpoint is kept by its step; 0 = none is")
    sudoku_seconds: float = Field(gt=0, description="training time of each Sudoku model, at most")
    sudoku_puzzles: Positive = Field(description="Sudoku puzzles to learn from")
    views: Positive = Field(description="augmented views that vote")
    segments: Limit = Field(description="segments of an answer; 0 = as many as in training")
    wandb: Literal["disabled", "offline", "online"] = Field(description="Weights & Biases")
    out_model: Text = Field(description="folder the trained model is written to; empty = model/ in out_dir")

    @field_validator("conditioning")
    @classmethod
    def _knows_its_identifiers(cls, conditioning: str, info: ValidationInfo) -> str:
        if conditioning == "identifier" and info.data.get("augment") != "listed":  # others have no identifier
            raise PydanticCustomError("identifiers_need_list", "must be shared where augment is not listed")
        return conditioning


class HybridJointKnobs(Knobs):
    """04_hybrid_joint: a frozen language model and a TRM, joined by two adapters."""

    inputs = ("data_dir", "model_dir", "drafter_dir", "trm_checkpoint")
    reader = "arc_helpers.arc.check:asked"
    kept = "the last checkpoint of each arm"
    may_change = frozenset({"deadline_seconds", "epochs", "keep_every", "wandb", "out_model", "arms"})
    goes_on = True

    data_dir: str = Field(min_length=1, description="ARC tasks to answer: a set's name, a folder, a challenges file")
    max_side: int = Field(ge=1, le=30, description="tasks with larger grids keep the fallback, in cells")
    max_tasks: Limit = Field(description="most ARC tasks to answer; 0 = all")
    model_dir: str = Field(min_length=1, description="Hugging Face folder of the language model that reads")
    drafter_dir: Text = Field(description="folder of the language model that drafts; empty = the one that reads")
    draft_seconds: Seconds = Field(description="time that a GridLM learns before it drafts, twice; 0 = as it is")
    mend_seconds: float = Field(gt=0, description="training time of the TRM that mends drafts")
    quantization: Quantization = Field(description="how the language model is loaded")
    frozen: bool = Field(description="leave the language model as it is; false trains a LoRA beside it")
    lora_r: Positive = Field(description="rank of that LoRA")
    gradient_checkpointing: bool = Field(description="compute the language model's layers again, to save memory")
    trm_checkpoint: Text = Field(description="pretrained TRM, folder or checkpoint_step_N.pt; empty = a fresh one")
    hidden_size: int = Field(ge=32, multiple_of=32, description="width of TRM")
    halt_max_steps: Positive = Field(description="most segments of an attempt")
    mode: Literal["prefix", "carry", "both"] = Field(description="where the text enters TRM: prefix, start, or both")
    side: int = Field(ge=3, le=30, description="side of the canvas and of the tasks, in cells")
    tasks: Positive = Field(description="tasks to learn from")
    asked: Positive = Field(description="questions of each test set")
    batch_size: Positive = Field(description="questions a training step")
    epochs: float = Field(gt=0, description="passes over the training questions, of every arm")
    lr: float = Field(gt=0, description="learning rate of the adapters")
    deadline_seconds: Seconds = Field(description="wall-clock budget of the run; 0 = no limit")
    keep_every: int = Field(ge=0, description="steps after which a checkpoint is kept by its step; 0 = none is")
    feedback_steps: Positive = Field(description="further steps of the joint model, with feedback on an attempt")
    max_attempts: Positive = Field(description="attempts at a question, and views to compare them with")
    cache_gib: float = Field(ge=0, description="memory for states of prompts that are read again, in GiB")
    arms: Text = Field(description="what the joint model is compared with, separated by commas; empty = nothing")
    wandb: Literal["disabled", "offline", "online"] = Field(description="Weights & Biases")
    out_model: Text = Field(description="folder the joint model is written to; empty = model/ in out_dir")


class TpttLizaKnobs(Knobs):
    """07_tptt_liza: LiZA beside every attention, repaired, compared with LoRA alone."""

    inputs = ("model_dir", "dataset")
    reader = "arc_helpers.texts.check:documents"
    kept = "the text model made on the spot"

    model_dir: Text = Field(description="Llama or Qwen2 folder; empty = a small text model made on the spot")
    base_hidden: int = Field(ge=64, multiple_of=64, description="width of the model made on the spot")
    base_steps: int = Field(ge=0, description="training steps of the model made on the spot")
    dataset: str = Field(min_length=1, description="stdlib, arc, offline (both), or texts: a file, a folder, a hub id")
    n: Limit = Field(description="most training documents; 0 = all")
    operator_modes: str = Field(min_length=1, description="LiZA modes to train, separated by commas")
    quantization: Quantization = Field(description="how the base model is loaded")
    r: Positive = Field(description="rank of the adapters")
    alpha: Positive = Field(description="scale of the adapters: their output is multiplied by alpha / r")
    mag_final: float = Field(ge=0, le=1, description="Memory-as-Gate weight after the transition; it starts at 0.01")
    transition_step: Positive = Field(description="optimizer step at which the final weight is reached")
    steps: Positive = Field(description="optimizer steps of an arm")
    batch_size: Positive = Field(description="documents a step")
    max_length: int = Field(ge=16, description="longest training document, in tokens")
    lr: float = Field(gt=0, description="learning rate")
    num_seeds: int = Field(ge=1, le=15, description="seeds of the comparison; intervals need 2, claims 3")
    eval_length: int = Field(ge=32, description="tokens of an evaluation window, beyond max_length")
    eval_windows: Positive = Field(description="evaluation windows of each kind of text")
    window: Positive = Field(description="tokens that windowed attention sees")
    sinks: int = Field(ge=0, description="first tokens that it sees as well")
    max_context: int = Field(ge=64, description="longest context whose decoding is timed, in tokens")


class TinyloraDialogKnobs(Knobs):
    """05_tinylora_dialog: meta-training, adapters for dialogues, chat."""

    inputs = ("model_dir", "dataset", "lm_dir", "corpus", "tokenizer")
    reader = "arc_helpers.texts.check:own_texts"
    may_change = frozenset({"meta_steps", "meta_seconds"})
    kept = "the last checkpoint of its meta-training"

    model_size: Literal["tiny", "nano", "small", "125m"] = Field(description="size of the model that is meta-trained")
    window: Positive = Field(description="tokens a layer attends to; at least ttt_batch")
    ttt_batch: Positive = Field(description="tokens an inner step")
    train_batch: Positive = Field(description="texts an outer step")
    micro_batch: int = Field(ge=0, description="texts in memory at once; 0 = all of a step")
    objective: Literal["stream", "split"] = Field(description="score every token, or the second part of a text")
    second_order: bool = Field(description="the outer gradient goes through the inner gradients")
    meta_steps: Limit = Field(description="outer steps; 0 = no limit")
    meta_seconds: Seconds = Field(description="time of the meta-training; 0 = no limit")
    model_dir: Text = Field(description="meta-trained model to go on with; empty = the one trained here")
    dataset: Text = Field(description="dialogues: a file, a folder, a hub id; empty = our persona dialogues")
    lm_dir: Text = Field(description="an ordinary chat model that is tuned on them, too; empty = left out")
    lm_steps: Positive = Field(description="training steps of its adapter")
    corpus: Text = Field(description="texts to meta-train on: installed, a file, a folder, a hub id; empty = left out")
    tokenizer: Text = Field(description="folder of the tokenizer that reads them; empty = one is learned on them")
    max_len: int = Field(ge=16, description="longest dialogue, and a window of texts, in tokens")
    adapter: Literal["tinylora-13", "tinylora", "lora-xs", "lora"] = Field(description="the adapter that is kept")
    adapters: str = Field(min_length=1, description="adapters of the size table, separated by commas")
    adapter_steps: Positive = Field(description="training steps of an adapter")
    lr: float = Field(gt=0, description="learning rate of the adapters")
    texts: Positive = Field(description="test dialogues a measurement")
    learn_from: Literal["all", "user", "none"] = Field(description="whose turns the chat learns from")
    history: int = Field(ge=0, description="last utterances that stand in every prompt of the chat")


class MemoryTestsKnobs(Knobs):
    """06_memory_tests: is it memory?"""

    inputs = ("model_dir", "adapter_path", "text_model", "corpus")
    reader = "arc_helpers.texts.check:own_texts"

    model_dir: str = Field(min_length=1, description="folder of the meta-trained model")
    adapter_path: Text = Field(description="PEFT folder or .pth of an adapter; empty = one is trained here")
    adapter_steps: Positive = Field(description="training steps of that adapter")
    texts: int = Field(ge=2, description="test dialogues a cell")
    grid: bool = Field(description="the full grid: every combination, instead of one axis at a time")
    facts: str = Field(min_length=1, description="facts a dialogue, separated by commas")
    repeats: str = Field(min_length=1, description="times a fact is told, separated by commas")
    gaps: str = Field(min_length=1, description="tokens from the last fact to the first question, separated by commas")
    lrs: str = Field(min_length=1, description="factors of the inner learning rates, separated by commas")
    seeds: Positive = Field(description="sets of dialogues a cell")
    max_len: Limit = Field(description="longest text, in tokens; a longer one loses its beginning; 0 = no limit")
    corpus: Text = Field(description="texts of section 6: installed, a file, a folder; empty = Python's reference")
    text_model: Text = Field(description="model that reads them, with its tokenizer (05 makes one); empty = model_dir")
    prose_tokens: int = Field(ge=256, description="tokens of a natural text")
    mqar_steps: int = Field(ge=0, description="meta-training steps on associative recall; 0 = leave it out")


class Profile(Knobs):
    """One configs/<name>.yaml: every knob of every notebook."""

    name: str
    description: str
    base_model: BaseModelKnobs
    tokenization_debug: TokenizationDebugKnobs
    multilora_ttt: MultiloraTttKnobs
    trm_pretrain: TrmPretrainKnobs
    hybrid_joint: HybridJointKnobs
    tptt_liza: TpttLizaKnobs
    tinylora_dialog: TinyloraDialogKnobs
    memory_tests: MemoryTestsKnobs


NOTEBOOKS = tuple(name for name in Profile.model_fields if name not in ("name", "description"))
