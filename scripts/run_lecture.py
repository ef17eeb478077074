"""Type every command of docs/lecture.md, one after another, on a small part of MNIST: they must all work.

    python scripts/run_lecture.py [--whole]

docs/lezione.md must have the same commands in the same order. A training that is meant to diverge may (exit code 4).
With --whole nothing is made smaller.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SMALLER = ["--limit-train=1000", "--set=data.val_size=500", "--set=training.batch_size=20", "--threads=1"]
DIVERGED = 4


def commands_of(page: str) -> list[list[str]]:
    """Return the commands in the page's blocks of shell lines, as words."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def smaller(words: list[str]) -> list[str]:
    """Return the command with fewer images and epochs, if it trains."""
    match words[1]:
        case "train":
            kept = [*words, *(option for option in SMALLER if "--limit-train" not in words or "limit" not in option)]
            return kept if "--epochs" in words else [*kept, "--epochs=2"]
        case "lr-sweep":
            return [*words, *SMALLER, "--epochs=1", "--num=3", "--seeds=0"]
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="make nothing smaller")
    is_whole = parser.parse_args().whole
    commands = commands_of("lecture.md")
    if commands != commands_of("lezione.md"):
        sys.exit("docs/lezione.md does not have the commands of docs/lecture.md")
    with tempfile.TemporaryDirectory(prefix="lenet-lecture-") as directory:
        shutil.copytree(ROOT / "configs", Path(directory, "configs"))
        for words in commands:
            program, *arguments = words if is_whole else smaller(words)
            if program != "lenet":
                sys.exit(f"{' '.join(words)}: is no command of lenet")
            print(f"$ {' '.join(words)}", flush=True)
            ended = subprocess.run([sys.executable, "-m", "lenet_mnist", *arguments], cwd=directory, check=False)
            if ended.returncode not in (0, DIVERGED if words[1] == "train" else 0):
                sys.exit(f"{' '.join(words)}: ended with {ended.returncode}")
    print(f"all {len(commands)} commands of docs/lecture.md work")


if __name__ == "__main__":
    main()
