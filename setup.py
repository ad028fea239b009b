"""The wheel carries what lies beside the package in the repository, so that it works wherever it is installed."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
#: arc_helpers/runs/env.py (`PACKAGED`) looks for them there; large models under models/ stay at home
CARRIED = ("configs/*.yaml", "notebooks/*.ipynb", "models/arc-micro/**/*", "models/ttt-memory/**/*")


class BuildWithData(build_py):
    """Copies the profiles, notebooks and small models into arc_helpers/packaged/."""

    def run(self):
        super().run()
        if self.editable_mode:  # the repository is around the code then
            return
        target = Path(self.build_lib) / "arc_helpers/packaged"
        shutil.rmtree(target, ignore_errors=True)
        for source in sorted(path for pattern in CARRIED for path in ROOT.glob(pattern) if path.is_file()):
            if not any(part.startswith(".") for part in source.relative_to(ROOT).parts):
                copy = target / source.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)


setup(cmdclass={"build_py": BuildWithData})
