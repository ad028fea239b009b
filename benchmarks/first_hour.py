"""The notebooks as a newcomer meets them: JupyterLab in a real browser, all cells run, widgets moved, saved, reopened.

Runs the browser tests and sums up what they print. START_HERE has its first picture within 60 seconds; the playground
follows the hand within 50 ms; every widget of a saved notebook has a picture with a text beside it; nothing outside
this machine is asked for. Needs chromium. --only: notebooks whose name has it, such as START_HERE.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMES = ("drag_ms", "thumbs_ms", "first_picture_s")


def browser_tests(only: str) -> tuple[str, bool]:
    """What they print, and whether all passed."""
    chosen = ["-k", f"{only} or play or start_here or without_the_kernel"] if only else []
    files = ["tests/browser/test_browser_play.py", "tests/browser/test_browser_notebooks.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-rA", *files, *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout, done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of a notebook's name")
    text, passed = browser_tests(parser.parse_args().only)
    lines = [json.loads(line[line.index("{") :]) for line in text.splitlines() if line.lstrip(".F").startswith('{"')]
    total = {name: sum(line.get(name, 0) for line in lines) for name in ("notebooks", "cells", "pictures", "external")}
    most = {name: max((line[name] for line in lines if name in line), default=None) for name in TIMES}
    playground = "FAILED tests/browser/test_browser_play.py" not in text
    result = {
        "notebooks": total["notebooks"],
        "cells_ok": total["cells"],
        "reopened_pictures": total["pictures"],
        **most,
    }
    result |= {"playground_ok": playground, "external_requests": total["external"], "passed": passed}
    print(text[-2000:] if not passed else "", json.dumps(result), sep="\n")
    sys.exit(not passed)


if __name__ == "__main__":
    main()
