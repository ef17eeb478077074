"""People's own data, from the command line: trained on, evaluated, verified, read, and noticed if they change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.own import chosen, write_idx, write_pictures
from tests.tables import read_csv

from lenet_mnist.data.sets import TrainVal
from lenet_mnist.runs.run import Run

Lenet = Callable[..., Any]
NAMES = ("nought", "<script>alert(1)<", "$x^2$ & some more letters than fit")
QUICK = ("--epochs", 2, "--batch-size", 16, "--threads", 1, "--set", "training.engine=torch")


@pytest.fixture
def shapes(small: TrainVal, tmp_path: Path) -> Path:
    """A hundred digits in three folders, dark on light as people write."""
    images, labels = chosen(small.val, 35, 35, 30)
    return write_pictures(tmp_path / "shapes", 255 - images, labels, NAMES)


def only_run(tmp_path: Path) -> Run:
    (path,) = (tmp_path / "runs").iterdir()
    return Run(path)


@pytest.fixture
def trained(lenet: Lenet, shapes: Path, tmp_path: Path) -> Run:
    answer = lenet("train", "--set", "data.source=shapes", *QUICK)
    assert answer.code == 0, answer.err
    assert shapes.is_dir()
    return only_run(tmp_path)


def test_class_names_are_in_every_table_and_picture(lenet: Lenet, trained: Run, shapes: Path) -> None:
    seen = lenet("evaluate", "latest", "--json")
    assert seen.code == 0, seen.err
    metrics = json.loads(seen.out)
    names = sorted(NAMES)
    assert metrics["num_images"] == 20
    assert [row["class"] for row in metrics["per_class"]] == names
    directory = trained.evaluation_path("test")
    assert [row["class"] for row in read_csv(directory / "per_class.csv")] == names
    assert list(read_csv(directory / "confusion_matrix.csv")[0])[1:] == names
    predictions = read_csv(directory / "predictions.csv")
    assert {row["label"] for row in predictions} == set(names)
    assert all((shapes / row["file"]).is_file() and row["file"].startswith(f"{row['label']}/") for row in predictions)
    page = trained.report_path.read_text()
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert "<script>alert" not in page
    assert 'class="matrix named"' in page
    assert lenet("describe", "--set", "data.source=shapes").out.count("84 -> 3") == 1
    assert lenet("describe", "--set", "data.source=fashion-mnist").out.count("84 -> 10") == 1  # it need not be there
    assert trained.manifest.data_source == "pictures"
    assert set(trained.manifest.data_files) == {f"{name}/" for name in NAMES}
    verified = lenet("verify", "latest", "--retrain")
    assert verified.code == 0, verified.out
    assert lenet("evaluate", trained.path, "--split", "val").code == 0


def test_changed_data_are_noticed_by_whatever_reads_them(lenet: Lenet, trained: Run, shapes: Path) -> None:
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(shapes / "nought" / "zzz.png")
    for split in ("test", "val"):
        refused = lenet("evaluate", "latest", "--split", split)
        assert refused.code == 3
        assert "was trained on other data than shapes holds now: nought/" in refused.err
    assert not (trained.evaluation_path("test") / "looks.csv").exists()
    assert "does not hold: data and split" in lenet("verify", "latest").err
    refused = lenet("train", "--resume", "latest")
    assert refused.code == 2
    assert "nought/" in refused.err
    (shapes / "nought" / "zzz.png").unlink()
    assert lenet("evaluate", "latest").code == 0
    trained.write_manifest(trained.manifest.model_copy(update={"splits_before": ("0" * 64,)}))
    refused = lenet("evaluate", "latest", "--split", "test")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "its test part may have trained it" in refused.err


def test_data_that_moved_are_found_by_their_name(lenet: Lenet, trained: Run, shapes: Path) -> None:
    elsewhere = shapes.parent / "elsewhere"
    elsewhere.mkdir()
    shapes.rename(elsewhere / "shapes")
    refused = lenet("evaluate", trained.path)
    assert refused.code == 2
    assert "shapes: no such source, and no such directory" in refused.err
    assert lenet("evaluate", trained.path, "--data-dir", elsewhere).code == 0


def test_two_runs_on_own_data_are_compared(lenet: Lenet, trained: Run, tmp_path: Path) -> None:
    lenet("train", "--set", "data.source=./shapes", *QUICK, "--seed", 1)
    runs = sorted((tmp_path / "runs").iterdir())
    assert trained.path in runs
    compared = lenet("compare", *runs, "--output", tmp_path / "compared", "--json")
    assert compared.code == 0, compared.err
    assert (tmp_path / "compared" / "fixed.png").exists()


def test_what_is_odd_is_noted_on_stderr_in_the_manifest_and_in_the_report(
    lenet: Lenet, shapes: Path, tmp_path: Path
) -> None:
    for path in sorted((shapes / "nought").iterdir())[:25]:
        path.unlink()
    first, *rest = sorted((shapes / NAMES[1]).iterdir())
    for path in rest[:20]:
        path.write_bytes(first.read_bytes())
    checked = lenet("data", "check", "--source", "shapes")
    assert "warning: the classes are imbalanced: 35 images of <script>alert(1)<, 10 of nought" in checked.out
    assert "across parts 0" not in checked.out
    answer = lenet("train", "--set", "data.source=shapes", *QUICK, "--lr", 1e-7)
    assert "data: the classes are imbalanced: " in answer.err
    assert "validation images are in an earlier part too" in answer.err
    hint = "the thresholds were measured on MNIST; on other data this is a hint"
    assert answer.out.splitlines()[-1] == hint
    assert hint in lenet("diagnose", "latest").out
    assert json.loads(lenet("diagnose", "latest", "--json").out)["caveat"] == hint
    notes = only_run(tmp_path).manifest.data_notes
    assert len(notes) == 2
    lenet("report", "latest")
    page = only_run(tmp_path).report_path.read_text()
    assert all(note[:20] in page for note in (*notes, hint) if "<" not in note)


def test_pictures_are_read_as_those_of_the_training_were(lenet: Lenet, trained: Run, shapes: Path) -> None:
    picture = next((shapes / "nought").iterdir())
    answer = lenet("predict", picture, "--json", "--show")
    (row,) = json.loads(answer.out)["pictures"]
    assert set(row["probabilities"]) == set(NAMES)
    assert (row["is_dark_on_light"], row["looks_like_mnist"]) == (None, None)
    assert "no steps to draw" in answer.err
    assert "taken as it is, 28 x 28 pixels" in lenet("predict", picture).out
    drawing = lenet("export", trained.path, "--format", "html")
    assert drawing.code == 2
    assert "was not trained on MNIST, but on pictures" in drawing.err
    for path in (shapes / "nought").iterdir():
        Image.open(path).resize((56, 40)).save(path)
    refused = lenet("predict", picture)
    assert refused.code == 3
    assert f"{picture} (56 x 40): the network was trained on pictures of 28 x 28 pixels" in refused.err
    refused = lenet("train", "--set", "data.source=shapes", *QUICK)
    assert refused.code == 3
    assert "data.resize=true" in refused.err
    assert lenet("train", "--set", "data.source=shapes", "--set", "data.resize=true", *QUICK).code == 0
    assert "taken as it is, 56 x 40 pixels" in lenet("predict", picture).out


def test_idx_files_and_digits_are_trained_on(lenet: Lenet, small: TrainVal, tmp_path: Path) -> None:
    write_idx(tmp_path / "own", "train", *chosen(small.val, 30, 30, 0, 30))
    for source, num_test in (("own", 18), ("digits", 359)):
        assert lenet("train", "--set", f"data.source={source}", *QUICK, "--name", f"of-{source}").code == 0
        seen = lenet("evaluate", f"of-{source}", "--json")
        assert json.loads(seen.out)["num_images"] == num_test
        assert lenet("evaluate", f"of-{source}", "--split", "val").code == 0


def test_a_sweep_knows_its_data(lenet: Lenet, shapes: Path) -> None:
    options = ("--lrs", "0.01,0.05", "--seeds", 0, "--epochs", 1, "--batch-size", 16, "--threads", 1)
    swept = lenet("lr-sweep", "--set", "data.source=shapes", *options)
    assert swept.code == 0, swept.err
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(shapes / "nought" / "zzz.png")
    refused = lenet("lr-sweep", "--resume", "latest")
    assert refused.code == 3
    assert "nought/" in refused.err


BAD_INPUT = [
    ("train --set data.source=fashon-mnist", 2, "did you mean fashion-mnist?"),
    ("train --set data.source=MNIST", 2, "did you mean mnist?"),
    ("train --set data.source=", 2, "data.source"),
    ("train --set data.source='a\\tb'", 2, "data.source"),
    ("train --set data.source=./nowhere", 3, "nowhere: data.source: no such directory"),
    ("train --set data.source=nowhere/..", 3, "nowhere/..: data.source: no such directory"),
    ("train --set data.source=~nobody-of-that-name/x", 3, "~nobody-of-that-name/x: data.source: "),
    (f"train --set data.source={'n' * 300}", 3, "File name too long"),
    ("train --set data.source=file", 3, "file: data.source: no such directory"),
    ("train --set data.source=.", 3, "holds neither IDX files"),
    ("train --set data.source=digits --set data.train_size=5000", 2, "but the data have 1,438"),
    ("data check --source nowhere", 2, "expected one of mnist, fashion-mnist, kmnist, digits"),
    ("data fetch --source digits", 2, "digits: only mnist"),
    ("data fetch --source ./shapes", 2, "./shapes: only mnist"),
    ("data fetch --source kmnist --offline --data-dir nowhere", 3, "--offline forbids"),
    ("data where --source fashon", 2, "did you mean fashion-mnist?"),
    ("describe --set data.source=digit", 2, "did you mean digits?"),
]


def test_bad_sources_get_one_line_and_the_right_exit_code(lenet: Lenet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    for arguments, code, complaint in BAD_INPUT:
        answer = lenet(*arguments.split())
        assert (answer.code, answer.err.count("\n")) == (code, 1), (arguments, answer)
        assert complaint in answer.err
    assert list(tmp_path.glob("runs/*")) == []


def test_where_each_source_lies(lenet: Lenet, shapes: Path) -> None:
    assert lenet("data", "where", "--source", "shapes").out.splitlines()[1] == f"  shapes: {shapes.name}"
    assert "scikit-learn: " in lenet("data", "where", "--source", "digits").out
    assert lenet("data", "where", "--source", "kmnist", "--data-dir", "nowhere").out.count("missing") == 4
