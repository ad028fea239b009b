"""What a saved folder's own file names: transformers' loader, sent to the suite's.

`AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`, the original's line, would build tptt's model as
it is released, which computes something else. Here it comes to `load_liza`, so both ways give the same model.
"""

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

FILE = "liza_folder.py"
CODE = '''"""Opens this folder as it was saved, by arc_helpers.liza.save_liza; needs pip install "arc-helpers[liza]"."""

from arc_helpers.liza.reload import LizaConfig, LizaModel  # noqa: F401
'''
AUTO_MAP = {"AutoConfig": "liza_folder.LizaConfig", "AutoModelForCausalLM": "liza_folder.LizaModel"}


class LizaConfig(PretrainedConfig):
    """What config.json holds, and nothing computed from it."""

    model_type = "tptt"


class LizaModel(PreTrainedModel):
    """A name for transformers' loader; what it gives back is the TpttModel that was saved."""

    config_class = LizaConfig

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *_, base_model_name: str | None = None, **options: Any):
        """The model of a folder or of a hub id, in evaluation mode. base_model_name: where its base is now.

        Raises LizaError or lm.ModelError, one line.
        """
        from arc_helpers.liza.folder import load_liza

        offline = bool(options.get("local_files_only"))
        return load_liza(pretrained_model_name_or_path, base_model_name, download=not offline)[0]
