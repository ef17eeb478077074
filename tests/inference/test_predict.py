"""`lenet predict`: what is said of people's own pictures."""

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.once import draw_roughly

from lenet_mnist.data.sets import TrainVal
from lenet_mnist.inference.pictures import Looks, doubts, looks_of, prepare
from lenet_mnist.inference.predict import Answer, read_pictures
from lenet_mnist.runs.run import Run
from lenet_mnist.training.checkpoint import read_network

Lenet = Callable[..., Any]
SURE = 0.999


def picture_of(pixels: np.ndarray, path: Path) -> Path:
    """A digit of MNIST as people would write it: dark on light, and larger."""
    Image.fromarray(255 - pixels).resize((140, 140)).save(path)
    return path


@pytest.fixture
def folder(small: TrainVal, tmp_path: Path) -> Path:
    """Six digits of the validation part, as files."""
    directory = tmp_path / "digits"
    directory.mkdir()
    for k in range(6):
        picture_of(small.val.images[k].numpy(), directory / f"{k}.png")
    return directory


def test_the_answer_is_the_networks_own_for_mnists_picture(small: TrainVal, run: Run, folder: Path) -> None:
    """Through a file and back, the probabilities stay nearly those of the picture itself."""
    trained = read_network(run.model_path)
    with torch.inference_mode():
        direct = trained.network(trained.normalization.apply(small.val.images[:6])).softmax(dim=1).numpy()
    answers = [answer for answer in read_pictures(run, [folder]) if isinstance(answer, Answer)]
    found = np.array([list(answer.probabilities.values()) for answer in answers])
    assert np.allclose(found.sum(axis=1), 1)
    assert np.abs(found - direct).mean() < 0.05
    assert (found.argmax(axis=1) == direct.argmax(axis=1)).sum() >= 5


@pytest.mark.usefixtures("run")
def test_three_classes_are_said_for_each_picture_and_all_in_json(lenet: Lenet, folder: Path) -> None:
    said = lenet("predict", folder)
    assert said.code == 0
    lines = said.out.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert [line.split(":")[0] for line in heads] == [str(folder / f"{k}.png") for k in range(6)]
    assert all(line.count("%") == 3 for line in heads)
    assert lines.count("  dark ink on light ground, 140 x 140 pixels") == 6
    document = json.loads(lenet("predict", folder, "--json").out)
    assert len(document["pictures"]) == 6
    for row in document["pictures"]:
        assert list(row["probabilities"]) == list("0123456789")
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)
        assert (row["width"], row["height"], row["is_dark_on_light"]) == (140, 140, True)
        assert row["looks_like_mnist"] is not bool(row["doubts"])


@pytest.mark.usefixtures("run")
def test_a_bad_picture_is_named_and_the_others_are_answered(lenet: Lenet, folder: Path) -> None:
    (folder / "3.png").write_text("no picture")
    Image.new("L", (50, 50), 7).save(folder / "4.png")
    said = lenet("predict", folder)
    assert said.code == 3
    assert said.out.count("dark ink on light ground") == 4
    assert f"{folder / '3.png'}: " in said.out
    assert f"{folder / '4.png'}: no digit found" in said.out
    assert said.err.splitlines()[1].startswith(f"error: 2 of 6 pictures could not be read: {folder / '3.png'}: ")
    assert len(said.err.splitlines()) == 2

    document = lenet("predict", folder, "--json")
    assert document.code == 3
    assert [("error" in row) for row in json.loads(document.out)["pictures"]] == [False] * 3 + [True] * 2 + [False]


@pytest.mark.usefixtures("run")
def test_no_name_is_too_strange(lenet: Lenet, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a\nb.png").write_text("no picture")
    for name, complaint in (
        ("a" * 3000, "File name too long"),
        ("empty", "empty: holds no picture"),
        ("/dev/zero", "regular"),
        ("missing.png", "no such file"),
        ("a\nb.png", "a\\nb.png: is not a picture"),
    ):
        said = lenet("predict", name, folder / "0.png", tmp_path / "folder.png")
        assert said.code == 3
        assert complaint in said.out
        assert "dark ink on light ground" in said.out
        assert said.err.splitlines()[1].startswith("error: 2 of 3 pictures could not be read: ")
        assert len(said.err.splitlines()) == 2
    assert lenet("predict", "missing.png", "--run", "nothing").code == 2


def test_the_steps_are_drawn_into_the_run(
    lenet: Lenet, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_roughly(monkeypatch)
    (folder / "0.png").rename(folder / "0 $x^2$ \u4e09\x07.png")
    said = lenet("predict", folder, "--show")
    assert said.code == 0
    drawn = Path("runs") / run.id / "predictions" / "steps.png"
    assert f"steps drawn in {drawn}" in said.err
    with Image.open(drawn) as picture:
        assert picture.height > 6 * 0.2 * picture.width  # a row for each


def test_what_cannot_be_used_is_refused(lenet: Lenet, run: Run, folder: Path, outside: Path) -> None:
    manifest = run.manifest
    run.predictions_path.symlink_to(outside)
    said = lenet("predict", folder, "--show")
    assert said.code == 6
    assert "symbolic link" in said.err
    run.write_manifest(manifest.model_copy(update={"weights_sha256": "0" * 64}))
    said = lenet("predict", folder)
    assert said.code == 3
    assert "manifest.json" in said.err
    run.write_manifest(manifest.model_copy(update={"kind": "sweep"}))
    said = lenet("predict", folder, "--run", f"runs/{run.id}")
    assert said.code == 2
    assert "is a sweep" in said.err


def test_which_run_answered_is_said(lenet: Lenet, run: Run, folder: Path) -> None:
    path = f"runs/{run.id}"
    for name in ("latest", run.config.label):
        for command in (("predict", folder / "0.png", "--run", name), ("diagnose", name), ("report", name)):
            said = lenet(*command)
            assert said.code == 0
            assert f"{name}: {path}" in said.err.splitlines()
            assert json.loads(lenet(*command, "--json").out)["run"] == path
    for exact in (run.id, path):
        assert path not in lenet("predict", folder / "0.png", "--run", exact).err


def test_a_network_at_chance_level_is_not_the_fault_of_the_picture(lenet: Lenet, run: Run, folder: Path) -> None:
    manifest = run.manifest
    for accuracy, only_guesses in ((0.11, True), (0.6, False)):  # a few sure mistakes alone can cost as much
        update = {"best_val_loss": manifest.guessing_loss, "best_val_accuracy": accuracy}
        run.write_manifest(manifest.model_copy(update=update))
        said = lenet("predict", folder, "--run", run.id)
        assert said.code == 0
        assert ("chance level" in said.err) is only_guesses
        if only_guesses:
            assert "warning" not in said.out
        document = json.loads(lenet("predict", folder, "--json").out)
        assert document["only_guesses"] is only_guesses
        assert bool(document["notes"]) is only_guesses


def test_what_of_a_folder_is_no_picture_is_said(lenet: Lenet, run: Run, folder: Path) -> None:
    (folder / "a.ppm").write_bytes(b"P6")
    (folder / "inner").mkdir()
    said = lenet("predict", folder, "--run", run.id)
    assert said.code == 0
    assert said.err.count("skipped") == 1
    assert said.err.rstrip().endswith(": 2")


def test_of_many_pictures_only_the_first_are_kept(run: Run, folder: Path) -> None:
    reading = read_pictures(run, [folder] * 10)
    seen = [weakref.ref(result) for result in reading]
    gc.collect()
    assert len(seen) == reading.num_read == 60
    assert sum(result() is not None for result in seen) == len(reading.prepared) == 20


def test_pictures_on_their_side_are_noticed(small: TrainVal, run: Run, tmp_path: Path) -> None:
    for name, turn in (("upright", False), ("turned", True)):
        (tmp_path / name).mkdir()
        for k in range(40):
            pixels = small.val.images[k].numpy()
            picture_of(pixels.T if turn else pixels, tmp_path / name / f"{k}.png")
        reading = read_pictures(run, [tmp_path / name])
        assert sum(1 for _ in reading) == 40
        assert any("on their side" in note for note in reading.notes) is turn


def test_pictures_like_their_mirror_images_are_not_said_to_be_on_their_side(run: Run) -> None:
    """Discs and frames: whatever difference there is, is small or chance."""
    reading = read_pictures(run, [])
    for mean, deviation in ((-0.5, 0.1), (-2.0, 4.0)):
        reading.uprights = [mean - deviation, mean + deviation] * 4
        assert reading.notes == []
    reading.uprights = [-2.1, -1.9] * 4
    assert len(reading.notes) == 1


def test_what_is_not_one_digit_is_doubted(small: TrainVal, run: Run, tmp_path: Path) -> None:
    both = 255 - np.concatenate([small.val.images[1].numpy(), small.val.images[3].numpy()], axis=1)
    gate = np.full((140, 140), 255, np.uint8)
    gate[66:74, 20:120] = 0
    for k in range(6):
        gate[20:120, 20 + 18 * k : 28 + 18 * k] = 0
    for name, pixels, words in (("two", both, "in pieces"), ("gate", gate, "6 strokes side by side")):
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels).resize((280, 140)).save(path)
        (answer,) = read_pictures(run, [path])
        assert isinstance(answer, Answer)
        assert any(words in doubt for doubt in answer.doubts)


def test_mnists_own_digits_are_hardly_ever_doubted(small: TrainVal) -> None:
    """The network aside, by their looks: at most 1 in 100."""
    seen = [doubts(looks_of(prepare(image.numpy().astype(float))), SURE) for image in small.val.images]
    assert sum(bool(each) for each in seen) <= len(seen) / 100


def test_each_doubt_has_its_words() -> None:
    usual = {"ink": 0.13, "grey": 0.3, "row_crossings": 2, "column_crossings": 3, "apart": 0.0}
    assert doubts(Looks(**usual), SURE) == []
    for change, words in (
        ({"ink": 0.01}, "thin or few"),
        ({"ink": 0.5}, "too much ink"),
        ({"grey": 0.8}, "blurred"),
        ({"row_crossings": 7}, "7 strokes side by side"),
        ({"column_crossings": 8}, "8 strokes above each other"),
        ({"apart": 0.4}, "in pieces"),
    ):
        (found,) = doubts(Looks(**{**usual, **change}), SURE)
        assert words in found
    assert "not sure: 40%" in doubts(Looks(**usual), 0.4)[0]
