"""Install the wheel of this machine, and use it as somebody who has nothing else: no checkout, no compiler, no runs.

    make wheel                                        # builds it first, from the source archive

torch and the other dependencies are those of the environment that this runs in; lenet alone is installed, into an
environment of its own. Then, in an empty directory: a picture is read by the network that comes with lenet, whose
directory must stay as it was, the lab is written, and the recipe smoke is trained with the native engine.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from PIL import Image

from common import ROOT, arguments, data_access, data_of
from lenet_mnist.config import DataConfig


def install(wheel: Path, place: Path) -> Path:
    """Make an environment with this wheel, which sees the packages of the present one, and return its `lenet`."""
    venv.create(place)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(place / "bin" / "python")]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "others.pth").write_text("\n".join(others))  # plain lines: a checkout that they point to stays out
    return place / "bin" / "lenet"


def digest(directory: Path) -> str:
    """Return one SHA-256 of all files and their names, but for what Python keeps there."""
    whole = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        whole.update(str(path).encode() + path.read_bytes())
    return whole.hexdigest()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    (wheel,) = (path for path in parser.parse_args().dist.glob("*.whl") if "-none-any" not in path.name)
    train = data_of(DataConfig()).train
    with tempfile.TemporaryDirectory() as temporary:
        place, here = Path(temporary, "environment"), Path(temporary, "here")
        here.mkdir()
        command = install(wheel, place)
        # No compiler, no library that was compiled before, no settings.
        bare = {
            "PATH": str(here),
            "XDG_CACHE_HOME": str(here / "cache"),
            "LENET_DATA_DIR": str(data_access().directory),
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LENET_")} | bare

        def lenet(*words: str) -> str:
            print("lenet", *words, flush=True)
            done = subprocess.run([command, *words], check=True, cwd=here, env=environment, stdout=subprocess.PIPE)
            return done.stdout.decode()

        (package,) = place.glob("lib/python*/site-packages/lenet_mnist")
        before = digest(package)
        picture, label = train.images[0].numpy(), str(int(train.labels[0]))
        Image.fromarray(255 - picture).resize((200, 200)).save(here / "photo.png")
        (answer,) = json.loads(lenet("predict", "photo.png", "--json"))["pictures"]
        if answer["prediction"] != label:
            sys.exit(f"the picture shows {label}, and the network reads {answer['prediction']}")
        lenet("evaluate", "record", "--split", "val", "--offline")
        recipes = json.loads(lenet("recipes", "--json"))["recipes"]
        if {each["name"] for each in recipes} != {path.stem for path in ROOT.glob("configs/*.yaml")}:
            sys.exit("not all recipes are in the wheel")
        lenet("lab", "--images", "100", "--no-open", "--offline")
        print(lenet("train", "--config", "smoke", "--engine", "native", "--offline"))
        if digest(package) != before:
            sys.exit("something was written where lenet is installed")


if __name__ == "__main__":
    main()
