"""Learning from teachers: the loss, the loop, and the command."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.faults import Interrupter
from tests.tiny import config_of, part_of, start, tally_of, trained

from lenet_mnist.config import Activation, AugmentationConfig, Config
from lenet_mnist.config_file import Layer, resolve
from lenet_mnist.data.batches import CPU, SoftTargets, TrainBatches, evaluation_batches
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.data.sets import Normalization, TrainVal
from lenet_mnist.distributed import Ranks
from lenet_mnist.model.lenet import LeNet
from lenet_mnist.runs.listing import list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.study.train import train_seeds
from lenet_mnist.training import distillation
from lenet_mnist.training.checkpoint import read_network, write_network
from lenet_mnist.training.context import Session
from lenet_mnist.training.distillation import Teachers, distilled_loss

SETTINGS: dict[str, Any] = {
    "data.limit_train": 400,
    "data.val_size": 200,
    "training.max_epochs": 2,
    "training.batch_size": 32,
    "training.threads": 1,
    "training.engine": "torch",
}
QUICK = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
DISTORTED = AugmentationConfig(rotation=30, shift=3)
Lenet = Callable[..., Any]


def networks_for(data: TrainVal, config: Config, number: int = 2) -> list[LeNet]:
    return [trained(config.replace({"seed": seed}), data).state.network for seed in range(10, 10 + number)]


def teachers_for(data: TrainVal, config: Config, number: int = 2) -> Teachers:
    return Teachers(networks_for(data, config, number), config.training)


# The loss


def test_the_loss_is_the_one_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, taught = (torch.randn(7, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    labels_loss = F.cross_entropy(logits, torch.arange(7))
    for weight, temperature in ((0.0, 1.0), (0.3, 0.5), (0.3, 4.0), (1.0, 1.0), (1.0, 4.0)):
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
    networks = [start(config_of(seed=seed), tiny).network for seed in (1, 2, 3)]
    images = evaluation_batches(tiny.val, tiny.normalization, CPU)[0].images
    answered = Teachers(networks, config_of().training).logits(images)
    torch.testing.assert_close(answered, torch.stack([network(images).detach() for network in networks]).mean(dim=0))
    assert not answered.requires_grad


# The loop


def test_with_no_weight_teachers_change_nothing(tiny: TrainVal) -> None:
    config = config_of(distillation_weight=0.0)
    taught, alone = (trained(config, tiny, teachers=teachers) for teachers in (teachers_for(tiny, config), None))
    assert taught.everything == alone.everything


def test_a_network_learns_from_teachers_alone(small: TrainVal) -> None:
    """Its own labels are wrong, all of them: what it knows it has from its teachers."""
    data = part_of(small, 1000, 500)
    config = config_of(max_epochs=5, learning_rate=0.03)
    wrong = replace(data, train=replace(data.train, labels=(data.train.labels + 1) % 10))
    done = trained(config, wrong, teachers=teachers_for(data, config, 1))
    assert tally_of(done.state.network, data).accuracy > 0.7
    assert done.steps[-1].train_loss > 2  # the loss of the labels, which were not learnt


def test_the_loss_that_is_recorded_is_that_of_the_labels(tiny: TrainVal) -> None:
    taught, alone = (
        trained(config_of(), tiny, teachers=each).steps for each in (teachers_for(tiny, config_of()), None)
    )
    assert taught[0].train_loss == alone[0].train_loss  # before the first update they are the same network
    assert taught[0].gradient_norm != alone[0].gradient_norm
    assert taught[1].train_loss != alone[1].train_loss


def test_answers_are_those_to_the_images_of_the_batch(tiny: TrainVal) -> None:
    teachers = teachers_for(tiny, config_of())
    for epoch, augmentation in ((2, DISTORTED), (3, AugmentationConfig())):
        batches = TrainBatches(tiny, config_of(augmentation=augmentation))
        taught = list(teachers.teach(batches.of_epoch(epoch), batches.view(epoch)))
        assert len(taught) == 7
        for batch in taught:
            torch.testing.assert_close(batch.soft_targets.logits, teachers.logits(batch.images), rtol=1e-5, atol=1e-5)
            assert batch.soft_targets[1:] == (2.0, 1.0)
        again = teachers.teach(batches.of_epoch(epoch, start=4), batches.view(epoch))
        for batch, before in zip(again, taught[4:], strict=True):
            assert torch.equal(batch.soft_targets.logits, before.soft_targets.logits)


def test_views_that_come_again_are_asked_about_once_if_there_is_memory(
    tiny: TrainVal, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, places = networks_for(tiny, config_of(max_epochs=1), 1), torch.arange(200)
    for augmentation, memory, asked, kept in (
        (AugmentationConfig(), 9, 1, 1),
        (DISTORTED, 9, 5, 0),
        (DISTORTED.model_copy(update={"views": 2}), 9, 2, 2),
        (DISTORTED.model_copy(update={"views": 2}), 1, 3, 1),  # the second is asked for twice
        (DISTORTED.model_copy(update={"views": 1}), 0, 5, 0),
    ):
        monkeypatch.setattr(distillation, "_MAX_REMEMBERED_BYTES", memory * 200 * 10 * 4)
        seen: list[torch.Tensor] = []

        class Watched(Teachers):
            def logits(self, images: torch.Tensor, seen: list[torch.Tensor] = seen) -> torch.Tensor:
                seen.append(images)
                return super().logits(images)

        config = config_of(max_epochs=5, augmentation=augmentation)
        teachers = Watched(networks, config.training)
        trained(config, tiny, teachers=teachers)
        assert (sum(map(len, seen)), len(teachers._answers)) == (asked * 200, kept), augmentation
        for epoch, images in enumerate(seen[:2], start=1):  # as the network sees them
            assert torch.equal(images, TrainBatches(tiny, config).view(epoch).images_of(places))


# The command


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """Two finished runs, trained once."""
    runs_dir = tmp_path_factory.mktemp("classroom")
    config = resolve([Layer("the test", SETTINGS | {"name": "teacher"})]).config
    train_seeds(config, "1-2", Session(access), runs_dir)
    return runs_dir


@pytest.fixture
def teachers(classroom: Path, tmp_path: Path) -> list[str]:
    shutil.copytree(classroom, tmp_path / "runs")
    return [run.id for run in list_runs(tmp_path / "runs")]


@pytest.fixture
def leave(tmp_path: Path, access: DataAccess) -> Callable[..., Run]:
    """Train a run named student, and interrupt it at a step: 13 make an epoch."""

    def interrupted(at_step: int, **changes: Any) -> Run:
        config = resolve([Layer("the test", SETTINGS | {"name": "student"} | changes)]).config
        (student,) = train_seeds(config, None, Session(access, Interrupter(at_step)), tmp_path / "runs")
        assert student.manifest.status == "interrupted"
        return student

    return interrupted


def newest(tmp_path: Path) -> Run:
    return list_runs(tmp_path / "runs")[0]


def assert_refused(answer: Any, code: int = 2, names: str = "") -> None:
    assert (answer.code, answer.err.count("\n")) == (code, 1), answer
    assert names in answer.err


def test_a_taught_run_says_by_whom_and_is_trained_again_bit_by_bit(
    lenet: Lenet, teachers: list[str], tmp_path: Path
) -> None:
    """Activations may differ."""
    options = [word for name in teachers for word in ("--teacher", f"runs/{name}")]
    options += ["--name", "student", "--activation", "tanh", "--set", "augmentation.rotation=10"]
    assert lenet("train", *QUICK, *options).code == 0
    student = newest(tmp_path)
    assert student.config.training.teachers == tuple(teachers)
    assert student.config.model.activation is Activation.TANH
    known = {run.id: run.manifest for run in list_runs(tmp_path / "runs")}
    for record in student.manifest.teachers:
        teacher = known[record.run]
        assert (record.weights_sha256, record.seconds) == (teacher.weights_sha256, teacher.seconds)
    assert lenet("verify", student.path, "--retrain").code == 0
    assert lenet("evaluate", student.path, "--split", "val").code == 0
    report = student.report_path.read_text()
    for record in student.manifest.teachers:
        assert record.run in report
        assert record.weights_sha256[:12] in report
    again = lenet("train", "--config", student.path / "config.yaml", "--name", "again", "--json")
    assert json.loads(again.out)["runs"][0]["weights_sha256"] == student.manifest.weights_sha256


def test_a_taught_run_that_was_interrupted_comes_to_the_same(
    lenet: Lenet, teachers: list[str], leave: Callable[..., Run]
) -> None:
    """Of the view of its third epoch, the process before it had asked in the first."""
    changes = {"training.max_epochs": 3, "augmentation.rotation": 20, "augmentation.views": 2}
    changes["training.teachers"] = [teachers[0]]
    student = leave(30, **changes)
    assert lenet("train", "--resume", "student").code == 0
    options = [word for key, value in changes.items() for word in ("--set", f"{key}={value}".replace("'", ""))]
    whole = lenet("train", *QUICK, *options, "--json")
    assert json.loads(whole.out)["runs"][0]["weights_sha256"] == Run(student.path).manifest.weights_sha256


def test_teachers_may_be_named_in_another_way_and_moved_but_not_be_others(
    lenet: Lenet, teachers: list[str], tmp_path: Path, leave: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = leave(14, **{"training.teachers": [f"runs/{teachers[0]}"]})
    assert_refused(lenet("train", "--resume", "student", "--teacher", teachers[1], "--accept-differences"))
    assert_refused(lenet("train", "--resume", "student", "--teacher", teachers[0], "--teacher", teachers[1]))
    (tmp_path / "store").mkdir()
    (tmp_path / "runs" / teachers[0]).rename(tmp_path / "store" / "moved")
    assert_refused(lenet("train", "--resume", "student"), names="student")
    assert lenet("train", "--resume", "student", "--teacher", "store/moved").code == 0
    assert Run(student.path).config.training.teachers == (str(tmp_path / "store" / "moved"),)
    monkeypatch.chdir(student.path)
    assert lenet("verify", ".", "--retrain").code == 0


def test_the_latest_is_the_same_after_torchrun_has_started_the_job_again(
    teachers: list[str], tmp_path: Path, access: DataAccess
) -> None:
    runs_dir = tmp_path / "runs"
    config = Run(runs_dir / teachers[0]).config.replace({"training.teachers": ["latest"], "name": "student"})
    (first,) = train_seeds(config, "1", Session(access, ranks=Ranks(job="a job")), runs_dir)
    again, second = train_seeds(config, "1-2", Session(access, ranks=Ranks(job="a job", restarts=1)), runs_dir)
    assert again == first
    assert [run.manifest.teachers[0].run for run in (first, second)] == [teachers[0]] * 2
    assert second.config.training.teachers == (teachers[0],)


def test_a_teacher_that_lies_elsewhere_or_is_a_link_is_found_again(
    lenet: Lenet, teachers: list[str], tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "runs" / teachers[0]).rename(tmp_path / "store" / "elsewhere")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "store" / "elsewhere")
    for teacher, runs_dir in (("link", "runs"), (Path("runs") / teachers[1], "others")):
        assert lenet("train", *QUICK, "--teacher", teacher, "--name", "student", "--runs-dir", runs_dir).code == 0
        student = list_runs(tmp_path / runs_dir)[0]
        assert lenet("verify", student.path, "--retrain").code == 0
    assert student.config.training.teachers == (str(tmp_path / "runs" / teachers[1]),)


def test_who_has_seen_another_split_before_teaches_nobody(lenet: Lenet, leave: Callable[..., Run]) -> None:
    student = leave(14)
    before = student.manifest.split_sha256
    assert lenet("train", "--resume", "student", "--set", "data.split_seed=5", "--accept-differences").code == 0
    assert Run(student.path).manifest.splits_before == (before,)
    assert_refused(lenet("train", *QUICK, "--set", "data.split_seed=5", "--teacher", "student"), names="--teacher")
    assert lenet("train", *QUICK, "--set", "data.split_seed=5", "--name", "fresh").code == 0
    assert_refused(lenet("evaluate", "student", "fresh", "--split", "val"))
    assert_refused(lenet("evaluate", "student", "--split", "val"))
    assert lenet("evaluate", "student").code == 0  # the official test set trains nobody


def test_teachers_that_cannot_teach_are_refused_in_one_line(lenet: Lenet, teachers: list[str], tmp_path: Path) -> None:
    one = teachers[0]
    refused: list[tuple[list[str], str]] = [
        (["--teacher", "nobody"], "--teacher: training.teachers: "),
        (["--teacher", one, "--teacher", f"runs/{one}"], "--teacher"),
        (["--teacher", "a\nb"], "--teacher"),
        (["--teacher", "a" * 16_000, "--teacher", "b" * 16_000], "--teacher"),
        (["--teacher", one, "--set", "data.split_seed=3"], "data.split_seed"),
        (["--teacher", one, "--limit-train", "300"], "data.limit_train"),
        (["--teacher", one, "--lr", "auto"], "--lr"),
        (["--set", "training.teachers=runs/a"], "training.teachers"),
        (["--teacher", one, "--set", "training.distillation_temperature=0.09"], "distillation_temperature"),
        (["--teacher", one, "--set", "training.distillation_weight=1.5"], "distillation_weight"),
    ]
    for options, names in refused:
        assert_refused(lenet("train", *QUICK, *options), names=names)
    for command in ("lr-sweep", "cross-validate"):
        answer = lenet(command, "--limit-train", 100, "--set", f"training.teachers=[{one}]")
        assert_refused(answer, names="training.teachers")
    run = Run(tmp_path / "runs" / one)
    manifest, network = run.manifest, read_network(run.model_path)
    for changes in ({"kind": "sweep"}, {"data_files": {"train": "0"}}, {"status": "interrupted"}):
        run.write_manifest(manifest.model_copy(update=changes))
        assert_refused(lenet("train", *QUICK, "--teacher", one), names=one)
    run.write_manifest(manifest)
    for changes, code in (
        ({"class_names": tuple("abcdefghij")}, 2),
        ({"normalization": Normalization(mean=0.2, std=0.3)}, 3),
    ):
        write_network(run.model_path, replace(network, **changes))
        assert_refused(lenet("train", *QUICK, "--teacher", one), code)
    assert len(list_runs(tmp_path / "runs")) == 2


def test_damaged_or_changed_teachers_are_refused(lenet: Lenet, teachers: list[str], tmp_path: Path) -> None:
    run, other = (Run(tmp_path / "runs" / name) for name in teachers)
    assert lenet("train", *QUICK, "--teacher", teachers[0], "--name", "student").code == 0
    student = newest(tmp_path)
    run.model_path.write_bytes(other.model_path.read_bytes())
    assert_refused(lenet("train", *QUICK, "--teacher", teachers[0]), 3)
    run.write_manifest(run.manifest.model_copy(update={"weights_sha256": other.manifest.weights_sha256}))
    assert lenet("verify", student.path, "--retrain").code == 2
    student.config_path.write_text(student.config_path.read_text().replace(teachers[0], student.id))
    assert lenet("train", "--resume", student.path).code == 3  # not the configuration of this run
