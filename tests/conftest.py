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


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of a really pretrained language model, made by the suite's own command where it is not there yet.

    The one way out for a test: pip, which that command starts, is not guarded; this process stays so.
    """
    from unittest import mock

    from arc_helpers.lm.fetch import FetchError, get_model

    paths = [p for p in os.environ["PYTHONPATH"].split(os.pathsep) if p != str(_GUARD)]
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(paths)):
        try:
            return get_model("smollm2-135m")
        except FetchError as error:
            pytest.skip(f"smollm2-135m: {error}")


@pytest.fixture(autouse=True)
def _no_network(network_attempts):
    """Libraries swallow a failed connection and go on: the test that caused it fails all the same."""
    yield
    assert network_attempts() == [], "the network was used"
