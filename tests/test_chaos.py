"""A short chaos: `make chaos` is the long one."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import chaos
from scenes import opened


def test_a_little_chaos(capsys):
    result = chaos.chaos(seed=random.Random(7).randrange(10**6), kill=16, damage=5, mutations=800, deadlines=4)
    said = capsys.readouterr().out
    assert result["passed"], said
    assert result["kills"] == result["identical"] == 16 and result["writers_refused"] == 8
    assert result["mutations"] == 800 and result["tracebacks"] == 0


def test_chaos_notices_what_is_wrong(tmp_path, monkeypatch):
    """A scene that forgets what it had done, and a reader that trips, are seen."""
    lines = []

    def forgetful(folder):
        _, log, resumed = opened(folder, "06")
        log.task("cell", recall=int(resumed))
        log.close(done=1)

    monkeypatch.setattr(chaos, "SCENES", {"06": forgetful})
    for what, same, _ in chaos.kills(tmp_path / "kills", 5, random.Random(0)):
        lines.append((what, same))
    assert len(lines) == 5 and not all(same for _, same in lines)
