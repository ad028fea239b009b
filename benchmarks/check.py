"""`python -m arc_helpers check 02` in a fresh process: CPU seconds, and whether it loads torch (<= 2 s, no torch)."""

import json
import resource
import subprocess
import sys
import tempfile

MAX_SECONDS, REPEATS = 2.0, 5
CODE = """
import sys
from arc_helpers.cli import app
try:
    app(["check", "02", "profile=laptop", "out_dir=" + sys.argv[1]])
except SystemExit as done:
    print(done.code, "torch" in sys.modules)
"""


def spent() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    seconds, said = [], set()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            before = spent()
            done = subprocess.run([sys.executable, "-c", CODE, f"{folder}/out"], capture_output=True, text=True)
            seconds.append(spent() - before)
            said.add(done.stdout.splitlines()[-1])
    result = {"seconds": round(sorted(seconds)[REPEATS // 2], 2), "torch_loaded": said != {"0 False"}}
    passed = result["seconds"] <= MAX_SECONDS and not result["torch_loaded"]
    print(json.dumps({**result, "repeats": REPEATS, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
