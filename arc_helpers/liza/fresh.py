"""A saved model asked from outside: a fresh process, no network, and every attempt at one counted."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from torch import Tensor

from arc_helpers.runs import load_tensors, save_tensors

#: what a process does when it looks for somebody else
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
ASK = f"""
import sys
tried = []
def blocked(event, args):
    if event in {NETWORK}:
        tried.append(event)
        raise OSError("this process has no network")
sys.addaudithook(blocked)
import torch
from arc_helpers.runs import load_tensors, save_tensors
from arc_helpers.liza import load_liza, mag_weight
folder, asked, answer, original = sys.argv[1:]
if original == "True":
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
else:
    model, _ = load_liza(folder)
with torch.no_grad():
    logits = model(load_tensors(asked)[0]["ids"].to(model.tptt_model.device)).logits.cpu()
save_tensors(answer, {{"logits": logits, "mag": torch.tensor(mag_weight(model)), "tried": torch.tensor(len(tried))}})
"""


def fresh_logits(folder: str | Path, ids: Tensor, original: bool = False) -> tuple[Tensor, float, int]:
    """(logits [B, L, V] of ids [B, L], MaG weight, attempts to connect) of a folder that save_liza wrote.

    original: by the original's line, transformers' own loader. The process starts with nothing but the folder, sockets
    blocked, and the hub's offline switch off.
    Raises RuntimeError with its last line where it fails.
    """
    with tempfile.TemporaryDirectory() as room:
        asked, answer = Path(room) / "ids.safetensors", Path(room) / "logits.safetensors"
        save_tensors(asked, {"ids": ids})
        env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_MODULES_CACHE": str(Path(room) / "modules")}
        command = [sys.executable, "-c", ASK, str(folder), str(asked), str(answer), str(original)]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            raise RuntimeError(f"{folder}: the fresh process failed: {done.stderr.strip().splitlines()[-1]}")
        found, _ = load_tensors(answer)
    return found["logits"], found["mag"].item(), int(found["tried"])
