"""A run: where it happens, with which values, and what it leaves behind. No puzzles, no models, no torch."""

from arc_helpers.runs.checkpoint import (
    CheckpointError,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    load_state,
    load_tensors,
    replacing,
    save_tensors,
)
from arc_helpers.runs.config import ConfigError, load_profile, resolve
from arc_helpers.runs.deadline import NO_DEADLINE, Deadline
from arc_helpers.runs.env import (
    HOST,
    DeviceChoice,
    Environment,
    choose_device,
    detect,
    has_bfloat16,
    output_path,
    project_root,
    resolve_path,
    seed_everything,
    take_gpu,
)
from arc_helpers.runs.fingerprint import code_fingerprint, fingerprint
from arc_helpers.runs.folder import FolderError, RunFolder, built_folder, first_change, replacing_folder
from arc_helpers.runs.knobs import NOTEBOOKS, PROFILES, Profile
from arc_helpers.runs.log import RunLog, git_version, versions
from arc_helpers.runs.mirror import open_mirror
from arc_helpers.runs.precision import tolerance
from arc_helpers.runs.progress import progress
from arc_helpers.runs.records import append_record, plain, read_jsonl
from arc_helpers.runs.seal import seal_json, sealing, usable
from arc_helpers.runs.session import Run, start, start_notebook
from arc_helpers.runs.watch import Hung, unless_hung

__all__ = [
    "HOST",
    "CheckpointError",
    "ConfigError",
    "NO_DEADLINE",
    "Deadline",
    "DeviceChoice",
    "Environment",
    "FolderError",
    "Hung",
    "NOTEBOOKS",
    "PROFILES",
    "Profile",
    "Run",
    "RunFolder",
    "RunLog",
    "append_record",
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "built_folder",
    "choose_device",
    "code_fingerprint",
    "detect",
    "fingerprint",
    "first_change",
    "git_version",
    "has_bfloat16",
    "load_profile",
    "load_state",
    "load_tensors",
    "open_mirror",
    "output_path",
    "plain",
    "progress",
    "project_root",
    "read_jsonl",
    "replacing",
    "replacing_folder",
    "resolve",
    "resolve_path",
    "save_tensors",
    "seal_json",
    "sealing",
    "seed_everything",
    "start",
    "start_notebook",
    "take_gpu",
    "tolerance",
    "usable",
    "versions",
    "unless_hung",
]
