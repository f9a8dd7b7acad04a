"""Run the examples of the gallery; keep what they print and draw beside them.

``python -m pages.run_examples`` runs all of ``docs/examples``, or those whose names are given, each
in a process and a folder of its own. Its picture and its print-out replace those in the repository;
with ``--check`` nothing is kept.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_SECONDS = 600


def main() -> None:
    """Run the examples; end with exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    wanted = parser.parse_args()
    scripts = sorted(EXAMPLES.glob("[0-9]*.py"))
    chosen = [s for s in scripts if not wanted.names or any(n in s.stem for n in wanted.names)]
    failed = [script.stem for script in chosen if not run(script, keep=not wanted.check)]
    if failed or not chosen:
        sys.exit(f"failed: {', '.join(failed) or 'no example of that name'}")


def run(script: Path, *, keep: bool) -> bool:
    """Run one example; return whether it ended well and drew its picture."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "Agg"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        picture = Path(folder) / f"{script.stem}.png"
        is_well = done.returncode == 0 and picture.is_file()
        took = time.perf_counter() - started
        print(f"{script.stem}: {took:.0f} s, {'done' if is_well else 'FAILED'}", flush=True)
        if keep and is_well:
            shutil.copy(picture, script.with_suffix(".png"))
            script.with_suffix(".txt").write_text(done.stdout, encoding="utf-8")
    return is_well


if __name__ == "__main__":
    main()
