"""The 16-token grid tokenizer of the embedded models, as an ordinary fast tokenizer (`tokenizer.json`)."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
#: ids 0–9 are the colours themselves, so a grid is its own token row.
SYMBOLS = [*"0123456789", "\n", "I", "O", PAD, BOS, EOS]


def arc_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character: ten colours, row end, the marks of input and output grid, pad, bos, eos."""
    core = Tokenizer(models.WordLevel({s: i for i, s in enumerate(SYMBOLS)}, unk_token=PAD))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()  # plain WordLevel decoding would put spaces between cells
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, bos_token=BOS, eos_token=EOS, clean_up_tokenization_spaces=False
    )
