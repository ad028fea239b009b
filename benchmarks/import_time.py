"""`import arc_helpers` in a fresh process: seconds, and whether it loads torch (<= 0.3 s, no torch)."""

import json
import subprocess
import sys

MAX_SECONDS, REPEATS = 0.3, 5
CODE = """
import sys, time
began = time.perf_counter()
import arc_helpers
print(time.perf_counter() - began, "torch" in sys.modules)
"""


def main() -> None:
    seconds, torch_loaded = [], False
    for _ in range(REPEATS):
        said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.split()
        seconds.append(float(said[0]))
        torch_loaded |= said[1] == "True"
    result = {"seconds": round(sorted(seconds)[REPEATS // 2], 5), "torch_loaded": torch_loaded, "repeats": REPEATS}
    passed = result["seconds"] <= MAX_SECONDS and not torch_loaded
    print(json.dumps({**result, "passed": passed}))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
