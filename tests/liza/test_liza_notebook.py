"""Notebook 07, headless, at the tiny profile, through the command line that users have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.notebook
def test_07_tptt_liza(tmp_path, network_attempts):
    """Trained on texts of the user's, and read on held-out ones of them, too."""
    rows = ({"text": f"{i}: " + " ".join(str(n * n + i) for n in range(200))} for i in range(12))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("profile=tiny", f"out_dir={tmp_path / 'out'}", f"dataset={tmp_path / 'texts.jsonl'}")
    command = [sys.executable, "-m", "arc_helpers", "run", "07", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "a teaching cell" not in done.stderr, done.stderr
    tmp_path /= "out"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["notebook"] == "07_tptt_liza" and summary["profile"] == "tiny"
    assert summary["operator_error"] <= 1e-10 < 0.5 < summary["operator_error_library"]
    assert summary["decode_gap"] <= 1e-4 < 0.1 < summary["decode_gap_library"]
    assert summary["mag_first"] == 0.01 and summary["mag_last"] == 0.5
    assert summary["reload_max_logit_diff"] <= 1e-4 and summary["connection_attempts"] == 0
    assert network_attempts() == []
    figures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert figures == {"mag", "nll_text", "nll_arc", "nll_yours", "cost"}
    assert (tmp_path / "model" / "liza.json").is_file() and (tmp_path / "metrics.jsonl").is_file()
