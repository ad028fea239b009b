"""What memory a base model takes, by the widths in its config, before anything is built; and what a device has left."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GIB = 2**30
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA; torch's CPU allocator
NF4 = 0.5 + 1 / 64 + 1 / 4096  # bytes a number: four bits, and a scale of a byte a block of 64, scaled in turn

#: other names of the same thing in a config
ALSO = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}


@dataclass(frozen=True)
class Base:
    """The widths that a base model's cost depends on, in numbers."""

    name: str
    hidden: int
    layers: int
    intermediate: int
    queries: int  # heads times their width
    keys: int  # of keys, and of values: key-value heads times their width
    vocabulary: int
    tied: bool = False  # embedding and head are one matrix
    qk_norm: bool = False
    counted: float = 0  # parameters, where they were counted

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str, counted: float = 0) -> "Base":
        """Read off what a config.json holds. Raises KeyError for one that tells no widths."""

        def get(key: str, default: Any = None) -> Any:
            value = config.get(key, config.get(ALSO.get(key, key)))
            if value is None and default is None:
                raise KeyError(key)
            return default if value is None else value

        hidden, heads = get("hidden_size"), get("num_attention_heads")
        width = get("head_dim", hidden // heads)
        experts = get("moe_intermediate_size", 0) * get("num_experts_per_tok", 1)
        return cls(
            name,
            hidden,
            get("num_hidden_layers"),
            max(get("intermediate_size", 4 * hidden), experts),
            heads * width,
            get("num_key_value_heads", heads) * width,
            get("vocab_size"),
            bool(get("tie_word_embeddings", False)),
            get("model_type", "") in ("qwen3", "qwen3_moe", "gridlm"),
            counted,
        )

    @property
    def block(self) -> int:
        """Weights of a decoder layer's linear maps, of a gated MLP."""
        return 2 * self.hidden * (self.queries + self.keys) + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> float:
        """All of them; norms and biases are left out where nobody counted."""
        return self.counted or self.layers * self.block + self._tables

    def weight_bytes(self, width: int = 2, four_bit: bool = False, trimmed: bool = False) -> float:
        """Bytes of the weights, `width` a number; in 4 bits what is not a linear map keeps that width. trimmed: without
        the rows of embedding and head, of which the suite keeps sixteen."""
        body = self.parameters - self._tables
        return body * (NF4 if four_bit else width) + (0 if trimmed else width * self._tables)

    @property
    def _tables(self) -> int:
        return self.vocabulary * self.hidden * (1 if self.tied else 2)


def parameters_in(folder: Path) -> int:
    """Numbers in a folder's *.safetensors, by their headers. Raises OSError or ValueError for a damaged file."""
    return sum(_numbers_in(file) for file in folder.glob("*.safetensors"))


def _numbers_in(file: Path) -> int:
    with open(file, "rb") as stream:
        header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            size = 1
            for side in entry["shape"]:
                size *= side
            total += size
    return total


def free_bytes(device: "torch.device") -> int:
    """What can still be allocated there: of a GPU what is free and what torch holds unused, else the computer's free
    memory."""
    import psutil
    import torch

    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + max(0, held)
    return psutil.virtual_memory().available


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in the computer."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def too_large(config: Any, folder: Path | None, device: "torch.device", width: int, four_bit: bool) -> str | None:
    """What to say of a base whose weights alone, `width` bytes a number, are more than a device has free; None where
    they are not, or where its config does not tell. Nothing is read but headers."""
    try:
        base = Base.of(config.get_text_config().to_dict(), "", parameters_in(folder) if folder else 0)
    except (KeyError, OSError, ValueError, struct.error):
        return None  # what is wrong with it is said by whoever reads it
    needed, free = base.weight_bytes(width, four_bit), free_bytes(device)
    if needed <= free:
        return None
    instead = "a smaller base is needed" if four_bit else "quantization = '4bit' needs a quarter of it"
    return f"its weights take {needed / GIB:.2f} GiB and {device} has {free / GIB:.2f} GiB free: {instead}"


def spread(device_map: "str | Mapping[str, Any] | None") -> str | None:
    """What to say of a map that puts a base on more than one device; None of one that does not."""
    import torch

    if isinstance(device_map, Mapping):
        places = set(map(str, device_map.values()))
    else:
        many = device_map in ("auto", "balanced", "balanced_low_0", "sequential")
        places = {f"GPU {i}" for i in range(torch.cuda.device_count())} if many else set()
    if len(places) < 2:
        return None
    return (
        f"device_map would put it on {', '.join(sorted(places))}, and adapters need it on one device: "
        "quantization = '4bit' makes it smaller; with workers = 2 each GPU has a whole one"
    )
