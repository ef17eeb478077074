"""Learning from teachers: the loss, the loop, and the command."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.faults import Killed

from lenet_mnist.config import Activation, AugmentationConfig, Config, TrainingConfig
from lenet_mnist.data.batches import SoftTargets, TrainBatches, evaluation_batches
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.distributed import Ranks
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.study.train import train_seeds
from lenet_mnist.tally import count
from lenet_mnist.training import distillation
from lenet_mnist.training.checkpoint import read_network, weights_digest, write_network
from lenet_mnist.training.context import Context, Session
from lenet_mnist.training.distillation import Teachers, distilled_loss
from lenet_mnist.training.loop import train
from lenet_mnist.training.rows import StepRow
from lenet_mnist.training.state import TrainState

CPU = torch.device("cpu")
QUICK = ["--limit-train", "1000", "--epochs", "2", "--batch-size", "32", "--threads", "1", "--engine", "torch"]
QUICK += ["--set", "data.val_size=500"]


def config_of(**training: Any) -> Config:
    values = {"max_epochs": 2, "batch_size": 50, "learning_rate": 0.05, **training}
    return Config(training=TrainingConfig.model_validate(values))


@pytest.fixture(scope="module")
def tiny(small: TrainVal) -> TrainVal:
    return replace(small, train=small.train.part(slice(330)), val=small.val.part(slice(100)))


def teachers_for(data: TrainVal, config: Config, count_: int = 2) -> Teachers:
    networks = []
    for seed in range(10, 10 + count_):
        state = TrainState.start(config.model_copy(update={"seed": seed}), Context(data))
        train(config.model_copy(update={"seed": seed}), Context(data), state)
        networks.append(state.network)
    return Teachers(networks, config.training)


# The loss


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_loss_is_the_one_of_the_paper(weight: float, temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, taught = (torch.randn(7, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.arange(7)
    labels_loss = F.cross_entropy(logits, labels)
    divergence = 0.0
    for row, wanted in zip(logits.tolist(), taught.tolist(), strict=True):
        p = [math.exp(value / temperature) for value in wanted]
        q = [math.exp(value / temperature) for value in row]
        divergence += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    expected = (1 - weight) * labels_loss.item() + weight * temperature**2 * divergence / 7
    found = distilled_loss(labels_loss, logits, SoftTargets(taught, temperature, weight), 7)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_who_answers_as_the_teachers_has_nothing_to_learn() -> None:
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = distilled_loss(torch.tensor(3.0), logits, SoftTargets(logits.detach() + 7.0, 2.0, 1.0), 5)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-6


def test_teachers_answer_with_the_mean_of_their_logits(tiny: TrainVal) -> None:
    config = config_of()
    networks = [TrainState.start(config.model_copy(update={"seed": s}), Context(tiny)).network for s in (1, 2, 3)]
    for network in networks:
        torch.nn.init.normal_(network.output.weight, generator=torch.Generator().manual_seed(4))
    images = evaluation_batches(tiny.val, tiny.normalization, CPU)[0].images
    mean = torch.stack([network(images).detach() for network in networks]).mean(dim=0)
    answered = Teachers(networks, config.training).logits(images)
    torch.testing.assert_close(answered, mean)
    assert not answered.requires_grad


# The loop


def run(config: Config, data: TrainVal, teachers: Teachers | None) -> tuple[TrainState, list[StepRow]]:
    state = TrainState.start(config, Context(data))
    rows: list[StepRow] = []

    def on_step(row: StepRow) -> bool:
        rows.append(row)
        return False

    train(config, Context(data, teachers=teachers), state, on_step)
    return state, rows


def test_with_no_weight_teachers_change_nothing(tiny: TrainVal) -> None:
    config = config_of(distillation_weight=0.0)
    taught, _ = run(config, tiny, teachers_for(tiny, config))
    alone, _ = run(config, tiny, None)
    assert weights_digest(taught.tensors()) == weights_digest(alone.tensors())


def test_a_network_learns_from_teachers_alone(small: TrainVal) -> None:
    """Its own labels are wrong, all of them: what it knows it has from its teachers."""
    config = config_of(max_epochs=5, learning_rate=0.02)
    teachers = teachers_for(small, config)
    wrong = replace(small, train=replace(small.train, labels=(small.train.labels + 1) % 10))
    state, rows = run(config, wrong, teachers)
    val = count(state.network, evaluation_batches(small.val, small.normalization, CPU))
    assert val.accuracy > 0.8
    assert rows[-1].train_loss > 2  # the loss of the labels, which were not learnt


def test_the_loss_that_is_recorded_is_that_of_the_labels(tiny: TrainVal) -> None:
    config = config_of()
    _, taught = run(config, tiny, teachers_for(tiny, config))
    _, alone = run(config, tiny, None)
    assert taught[0].train_loss == alone[0].train_loss  # before the first update they are the same network
    assert taught[0].gradient_norm != alone[0].gradient_norm
    assert taught[1].train_loss != alone[1].train_loss


DISTORTED = AugmentationConfig(rotation=30, shift=3)


def batches_of(data: TrainVal, augmentation: AugmentationConfig) -> TrainBatches:
    return TrainBatches(data, config_of().replace({"augmentation": augmentation.model_dump()}))


def watched(teachers: Teachers) -> list[torch.Tensor]:
    """Return where all images will be that `teachers` are asked about."""
    seen: list[torch.Tensor] = []
    logits = teachers.logits

    def watch(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return logits(images)

    teachers.logits = watch  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("augmentation", [AugmentationConfig(), DISTORTED])
def test_answers_are_those_to_the_images_of_the_batch(tiny: TrainVal, augmentation: AugmentationConfig) -> None:
    config = config_of()
    teachers = teachers_for(tiny, config)
    batches = batches_of(tiny, augmentation)
    taught = list(teachers.teach(batches.of_epoch(2), batches.view(2)))
    assert len(taught) == 7
    for batch in taught:
        assert batch.soft_targets is not None
        torch.testing.assert_close(batch.soft_targets.logits, teachers.logits(batch.images), rtol=1e-5, atol=1e-5)
        assert batch.soft_targets[1:] == (2.0, 1.0)
    again = teachers.teach(batches.of_epoch(2, start=4), batches.view(2))
    for batch, before in zip(again, taught[4:], strict=True):
        assert batch.soft_targets is not None
        assert before.soft_targets is not None
        assert torch.equal(batch.soft_targets.logits, before.soft_targets.logits)


@pytest.mark.parametrize(
    ("augmentation", "remembered", "asked"),
    [
        (AugmentationConfig(), 9, 1),
        (DISTORTED, 9, 5),
        (DISTORTED.model_copy(update={"views": 2}), 9, 2),
        (DISTORTED.model_copy(update={"views": 2}), 1, 3),  # the first is remembered, the second asked for twice
        (DISTORTED.model_copy(update={"views": 1}), 0, 5),
    ],
)
def test_views_that_come_again_are_asked_about_once_if_there_is_memory(
    tiny: TrainVal, monkeypatch: pytest.MonkeyPatch, augmentation: AugmentationConfig, remembered: int, asked: int
) -> None:
    monkeypatch.setattr(distillation, "_MAX_REMEMBERED_BYTES", remembered * 330 * 10 * 4)
    teachers = teachers_for(tiny, config_of())
    seen = watched(teachers)
    run(config_of(max_epochs=5).model_copy(update={"augmentation": augmentation}), tiny, teachers)
    assert sum(len(images) for images in seen) == asked * 330
    comes_again = augmentation.views is not None or not augmentation.is_on
    assert len(teachers._answers) == (min(remembered, augmentation.views or 1) if comes_again else 0)


def test_teachers_see_the_distorted_images(tiny: TrainVal) -> None:
    teachers = teachers_for(tiny, config_of())
    seen = watched(teachers)
    run(config_of(max_epochs=2).model_copy(update={"augmentation": DISTORTED}), tiny, teachers)
    places = torch.arange(330)
    assert torch.equal(seen[1], batches_of(tiny, DISTORTED).view(2).images_of(places))
    assert not torch.equal(seen[1], seen[0])


# The command


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> Path:
    """Two finished runs, trained once."""
    import subprocess
    import sys

    directory = tmp_path_factory.mktemp("classroom")
    command = [sys.executable, "-m", "lenet_mnist", "train", *QUICK, "--seeds", "1-2", "--name", "teacher"]
    subprocess.run([*command, "--data-dir", str(mnist_dir)], cwd=directory, check=True, capture_output=True)
    return directory / "runs"


@pytest.fixture
def teachers(classroom: Path, tmp_path: Path) -> list[str]:
    import shutil

    shutil.copytree(classroom, tmp_path / "runs")
    return [run.id for run in list_runs(tmp_path / "runs")]


def newest(tmp_path: Path) -> Run:
    return list_runs(tmp_path / "runs")[0]


def test_a_taught_run_says_by_whom_and_is_trained_again_bit_by_bit(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path
) -> None:
    options = [word for name in teachers for word in ("--teacher", f"runs/{name}")]
    answer = lenet("train", *QUICK, *options, "--name", "student", "--set", "augmentation.rotation=10")
    assert answer.code == 0, answer.err
    assert "teachers: 2, whose trainings took" in answer.err
    student = newest(tmp_path)
    assert student.config.training.teachers == tuple(teachers)
    manifest = student.manifest
    known = {run.id: run.manifest for run in list_runs(tmp_path / "runs")}
    for record in manifest.teachers:
        assert record.weights_sha256 == known[record.run].weights_sha256
        assert record.seconds == known[record.run].seconds
    verified = lenet("verify", student.path, "--retrain")
    assert verified.code == 0, verified.out
    assert lenet("evaluate", student.path, "--split", "val").code == 0
    report = student.report_path.read_text()
    for record in manifest.teachers:
        assert f"{record.run}, trained in {record.seconds:,.1f} s; weights {record.weights_sha256[:12]}" in report
    assert f"[{', '.join(teachers)}]" in report  # as the configuration file has them

    again = lenet("train", "--config", student.path / "config.yaml", "--name", "again", "--json")
    assert json.loads(again.out)["runs"][0]["weights_sha256"] == manifest.weights_sha256


def test_a_taught_run_that_was_interrupted_comes_to_the_same(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*QUICK, "--teacher", teachers[0], "--set", "training.checkpoint_every_steps=10"]
    options += ["--epochs", "3", "--set", "augmentation.rotation=20", "--set", "augmentation.views=2"]
    assert lenet("train", *options, "--name", "whole").code == 0
    whole = newest(tmp_path).manifest
    from lenet_mnist.runs import recording

    real = recording.save_checkpoint

    def full(*arguments: Any) -> None:
        if arguments[1].step == 80:
            raise Killed
        real(*arguments)

    monkeypatch.setattr(recording, "save_checkpoint", full)
    with pytest.raises(Killed):
        lenet("train", *options, "--name", "stopped")
    monkeypatch.setattr(recording, "save_checkpoint", real)
    resumed = lenet("train", "--resume", "stopped")
    assert resumed.code == 0, resumed.err
    assert "after step 70, in epoch 3" in resumed.err  # whose view the process before it had asked about in epoch 1
    assert newest(tmp_path).manifest.weights_sha256 == whole.weights_sha256


def leave_after_an_epoch(lenet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Train a run named student, and kill it after its first epoch."""
    from lenet_mnist.runs import recording

    real = recording.save_checkpoint

    def full(*arguments: Any) -> None:
        if arguments[1].step > 32:
            raise Killed
        real(*arguments)

    monkeypatch.setattr(recording, "save_checkpoint", full)
    with pytest.raises(Killed):
        lenet("train", *QUICK, *options, "--name", "student")
    monkeypatch.setattr(recording, "save_checkpoint", real)


def test_teachers_may_be_named_in_another_way_and_moved_but_not_be_others(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_after_an_epoch(lenet, monkeypatch, "--teacher", f"runs/{teachers[0]}")
    other = lenet("train", "--resume", "student", "--teacher", teachers[1], "--accept-differences")
    assert (other.code, "no longer the networks" in other.err) == (2, True)
    more = lenet("train", "--resume", "student", "--teacher", teachers[0], "--teacher", teachers[1])
    assert more.code == 2
    (tmp_path / "store").mkdir()
    (tmp_path / "runs" / teachers[0]).rename(tmp_path / "store" / "moved")
    gone = lenet("train", "--resume", "student")
    assert (gone.code, gone.err.count("\n")) == (2, 1)
    assert "student" in gone.err
    assert "one of its teachers" in gone.err
    found = lenet("train", "--resume", "student", "--teacher", "store/moved")
    assert found.code == 0, found.err
    assert newest(tmp_path).config.training.teachers == (str(tmp_path / "store" / "moved"),)
    monkeypatch.chdir(newest(tmp_path).path)
    assert lenet("verify", ".", "--retrain").code == 0


def test_the_latest_is_the_same_after_torchrun_has_started_the_job_again(
    teachers: list[str], tmp_path: Path, access: DataAccess
) -> None:
    config = Run(tmp_path / "runs" / teachers[0]).config
    config = config.replace({"training.teachers": ["latest"], "name": "student"})
    runs_dir = tmp_path / "runs"
    (first,) = train_seeds(config, "1", Session(access, ranks=Ranks(job="a job")), runs_dir)
    again, second = train_seeds(config, "1-2", Session(access, ranks=Ranks(job="a job", restarts=1)), runs_dir)
    assert again.directory == first.directory
    assert [run.manifest.teachers[0].run for run in (first, second)] == [teachers[0]] * 2
    assert second.directory.config.training.teachers == (teachers[0],)


def test_a_link_to_a_teacher_is_found_again(lenet: Callable[..., Any], teachers: list[str], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "runs" / teachers[0]).rename(tmp_path / "store" / "elsewhere")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "store" / "elsewhere")
    assert lenet("train", *QUICK, "--teacher", "link", "--name", "student").code == 0
    assert lenet("verify", "student", "--retrain").code == 0


@pytest.mark.usefixtures("teachers")
def test_who_has_seen_another_split_before_teaches_nobody(
    lenet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_after_an_epoch(lenet, monkeypatch)
    student = newest(tmp_path)
    before = student.manifest.split_sha256
    went_on = lenet("train", "--resume", "student", "--set", "data.split_seed=5", "--accept-differences")
    assert went_on.code == 0, went_on.err
    assert Run(student.path).manifest.splits_before == (before,)
    refused = lenet("train", *QUICK, "--set", "data.split_seed=5", "--teacher", "student")
    assert (refused.code, "another split" in refused.err) == (2, True)
    assert lenet("train", *QUICK, "--set", "data.split_seed=5", "--name", "fresh").code == 0
    together = lenet("evaluate", "student", "fresh", "--split", "val")
    assert (together.code, "different splits" in together.err) == (2, True)
    alone = lenet("evaluate", "student", "--split", "val")
    assert (alone.code, "its validation part may have trained it" in alone.err) == (2, True)
    assert lenet("evaluate", "student").code == 0  # the official test set trains nobody


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"kind": "sweep"}, "only trainings"), ({"data_files": {"train": "0"}}, "other data")],
)
def test_what_a_manifest_says_can_keep_a_run_from_teaching(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    run = Run(tmp_path / "runs" / teachers[0])
    run.write_manifest(run.manifest.model_copy(update=changes))
    answer = lenet("train", *QUICK, "--teacher", teachers[0])
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert complaint in answer.err


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"class_names": tuple("abcdefghij")}, 2), ({"normalization": Normalization(mean=0.2, std=0.3)}, 3)],
)
def test_a_network_for_other_classes_or_pixels_teaches_nobody(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path, changes: dict[str, Any], code: int
) -> None:
    run = Run(tmp_path / "runs" / teachers[0])
    write_network(run.model_path, replace(read_network(run.model_path), **changes))
    answer = lenet("train", *QUICK, "--teacher", teachers[0])
    assert (answer.code, answer.err.count("\n")) == (code, 1), answer.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--teacher", "nobody"], "no such run"),
        (["--teacher", "{0}", "--teacher", "runs/{0}"], "listed twice"),
        (["--teacher", "a\nb"], "control characters"),
        (["--teacher", "a" * 16_000, "--teacher", "b" * 16_000], "30,000 letters"),
        (["--teacher", "{0}", "--set", "data.split_seed=3"], "another split"),
        (["--teacher", "{0}", "--limit-train", "900"], "another split"),
        (["--teacher", "{0}", "--lr", "auto"], "trains without teachers"),
        (["--set", "training.teachers=runs/a"], "must be a list of runs"),
        (["--teacher", "{0}", "--set", "training.distillation_temperature=0.09"], "distillation_temperature"),
        (["--teacher", "{0}", "--set", "training.distillation_weight=1.5"], "distillation_weight"),
    ],
)
def test_teachers_that_cannot_teach_are_refused_in_one_line(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path, options: list[str], complaint: str
) -> None:
    answer = lenet("train", *QUICK, *(word.format(*teachers) for word in options))
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert complaint in answer.err
    assert len(list_runs(tmp_path / "runs")) == 2


@pytest.mark.parametrize("command", ["lr-sweep", "cross-validate"])
def test_what_trains_without_teachers_says_so(lenet: Callable[..., Any], teachers: list[str], command: str) -> None:
    answer = lenet(command, "--limit-train", 100, "--set", f"training.teachers=[{teachers[0]}]")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "leave them out" in answer.err


def test_unfinished_damaged_or_changed_teachers_are_refused(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path
) -> None:
    run = Run(tmp_path / "runs" / teachers[0])
    assert lenet("train", *QUICK, "--teacher", teachers[0], "--name", "student").code == 0
    student = newest(tmp_path)
    manifest = run.manifest
    run.write_manifest(manifest.model_copy(update={"status": "interrupted"}))
    answer = lenet("train", *QUICK, "--teacher", teachers[0])
    assert (answer.code, "is interrupted: only finished" in answer.err) == (2, True)
    run.write_manifest(manifest)

    other = Run(tmp_path / "runs" / teachers[1])
    content = other.model_path.read_bytes()
    run.model_path.write_bytes(content)
    assert lenet("train", *QUICK, "--teacher", teachers[0]).code == 3
    run.write_manifest(manifest.model_copy(update={"weights_sha256": other.manifest.weights_sha256}))
    answer = lenet("verify", student.path, "--retrain")
    assert (answer.code, "no longer the networks" in answer.err) == (2, True)

    (student.path / "config.yaml").write_text(
        (student.path / "config.yaml").read_text().replace(teachers[0], student.id)
    )
    assert lenet("train", "--resume", student.path).code == 3  # not the configuration of this run


def test_a_teacher_that_lies_elsewhere_is_found_again(
    lenet: Callable[..., Any], teachers: list[str], tmp_path: Path
) -> None:
    options = [*QUICK, "--teacher", Path("runs") / teachers[0], "--runs-dir", "others"]
    assert lenet("train", *options, "--name", "student").code == 0
    (student,) = list_runs(tmp_path / "others")
    assert student.config.training.teachers == (str(tmp_path / "runs" / teachers[0]),)
    assert lenet("verify", student.path, "--retrain").code == 0


def test_activations_may_differ(lenet: Callable[..., Any], teachers: list[str], tmp_path: Path) -> None:
    answer = lenet("train", *QUICK, "--teacher", teachers[0], "--activation", "tanh", "--name", "student")
    assert answer.code == 0, answer.err
    assert newest(tmp_path).config.model.activation is Activation.TANH
