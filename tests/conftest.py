"""What holds for every test: no network, here or in any process that a test starts."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_GUARD = Path(__file__).parent / "no_network"
_FOLDER = tempfile.TemporaryDirectory(prefix="arc-tests-")
_ATTEMPTS = Path(_FOLDER.name) / "attempts"

sys.path.insert(0, str(_GUARD))
sys.modules.pop("sitecustomize", None)  # a system may have one of its own
import sitecustomize  # noqa: E402

os.environ[sitecustomize.ATTEMPTS] = str(_ATTEMPTS)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_GUARD), os.environ.get("PYTHONPATH")]))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: measured a quarter less CPU time


@pytest.fixture
def network_attempts() -> Callable[[], list[str]]:
    """Returns and forgets what tried to leave this machine since the last call."""

    def take() -> list[str]:
        lines = _ATTEMPTS.read_text().splitlines() if _ATTEMPTS.exists() else []
        _ATTEMPTS.unlink(missing_ok=True)
        return lines

    return take


def pytest_terminal_summary(terminalreporter) -> None:
    """What was not tested is said where nobody overlooks it."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.getreports("skipped")}
    if reasons:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        for reason in sorted(reasons):
            terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True, bold=True)


@pytest.fixture(autouse=True)
def _no_network(network_attempts):
    """Libraries swallow a failed connection and go on: the test that caused it fails all the same."""
    yield
    assert network_attempts() == [], "the network was used"
