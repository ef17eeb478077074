"""The report of a run in any state: what it says, and that it always says something."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reporting.report_pages import TENS, Outline, put_everywhere, rename_classes, signed, sound

from lenet_mnist.analysis.metrics import Evaluation
from lenet_mnist.config import DataConfig, Split
from lenet_mnist.data.load import load_test
from lenet_mnist.data.mnist import DataAccess
from lenet_mnist.errors import ConfigError, DataError, one_line
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.files.tables import header_line
from lenet_mnist.reporting.report import report_of, write_report
from lenet_mnist.runs.run import Run, sha256_of
from lenet_mnist.study import evaluation
from lenet_mnist.training.rows import EpochRow, ProbeRow, StepRow

pytestmark = pytest.mark.usefixtures("drawn_roughly")

Lenet = Callable[..., Any]


@pytest.fixture(scope="module")
def evaluated_template(template_run: Path, tmp_path_factory: pytest.TempPathFactory, access: DataAccess) -> Path:
    """A finished run, evaluated once on the test set."""
    run = Path(shutil.copytree(template_run, tmp_path_factory.mktemp("evaluated") / template_run.name))
    evaluation.evaluate_runs([Run(run)], Split.TEST, evaluation.Evaluator(access))
    return run


@pytest.fixture
def evaluated(evaluated_template: Path, tmp_path: Path) -> Run:
    """An evaluated run of one's own."""
    return Run(Path(shutil.copytree(evaluated_template, tmp_path / "runs" / evaluated_template.name)))


def page_of(run: Run) -> Outline:
    """Write the report, check what holds for all, and return it."""
    outline = sound(write_report(Run(run.path)).read_text())
    outline.text = " ".join(outline.text.split())
    return outline


def test_the_figures_are_those_of_the_evaluation(evaluated: Run) -> None:
    page = page_of(evaluated)
    metrics = json.loads((evaluated.evaluation_path("test") / "metrics.json").read_text())
    interval = metrics["accuracy_interval_95"]
    assert f"{metrics['accuracy']:.2%} test accuracy" in page.text
    assert f"{metrics['num_correct']:,} of 10,000 images correct" in page.text
    assert f"95% interval {interval['low']:.2%} to {interval['high']:.2%}" in page.text
    assert f"mistakes {10_000 - metrics['num_correct']:,}" in page.text
    for row in metrics["per_class"]:
        assert f"{row['num_images']:,} {row['num_correct']:,} {row['recall']:.2%}" in page.text
    last = evaluated.history[-1]
    assert f"to {last.val_loss:.4g} at {last.epoch}" in str(page.alts)
    assert evaluated.manifest.machine in page.text
    assert f"lenet train --config runs/{evaluated.id}/config.yaml" in page.text


def test_every_cell_with_an_image_opens_its_images(evaluated: Run) -> None:
    page = page_of(evaluated)
    lines = (evaluated.evaluation_path("test") / "confusion_matrix.csv").read_text().splitlines()[1:]
    counts = [[int(cell) for cell in line.split(",")[1:]] for line in lines]
    assert set(page.opened) == {f"cell-{i}-{j}" for i in range(10) for j in range(10) if counts[i][j]}
    most = max((counts[i][j], i, j) for i in range(10) for j in range(10) if i != j)
    assert f"{most[1]} read as {most[2]}: {most[0]:,} images" in page.text
    in_cells = sum(min(12, count) for row in counts for count in row)
    in_pairs = sum(sorted((min(6, counts[i][j]) for i in range(10) for j in range(10) if i != j), reverse=True)[:6])
    assert len(page.sources) == in_cells + in_pairs + 6 + 1 + 6 + 16  # filters, the digit, S2, S4


def test_changed_settings_come_first_and_augmentation_explains_the_losses(run: Run) -> None:
    before, explanation = page_of(run).text, "The training images were augmented anew in every epoch"
    changed, unchanged = before.index("Changed from the defaults"), before.index("Values that are the default")
    assert changed < before.index("training.batch_size 32 64") < unchanged < before.index("training.momentum 0.9")
    assert explanation not in before
    run.config_path.write_text(run.config_path.read_text().replace("rotation: 0.0", "rotation: 10.0"))
    signed(run, config_sha256=sha256_of(run.config_path))
    text = page_of(run).text
    assert explanation in text
    assert "augmentation.rotation 10.0 0.0" in text


def test_the_page_trusts_its_own_style_alone(evaluated: Run) -> None:
    import base64
    import hashlib

    page = write_report(evaluated).read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    directives = dict(part.strip().split(" ", 1) for part in policy.replace("&#39;", "'").split(";"))
    assert directives["default-src"] == directives["base-uri"] == directives["form-action"] == "'none'"
    assert directives["img-src"] == "data:"
    (content,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert directives["style-src"] == f"'sha256-{digest}'"
    assert "script-src" not in directives
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_without_an_evaluation_the_report_says_so(run: Run) -> None:
    page = page_of(run)
    manifest = run.manifest
    assert f"{manifest.best_val_accuracy:.2%} validation accuracy" in page.text
    assert "Nothing has been evaluated yet." in page.text
    assert "Feature maps need an image" in page.text
    assert len(page.sources) == 6  # the filters are there all the same


def test_the_validation_set_is_reported_where_the_test_set_was_not_looked_at(
    lenet: Lenet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenet("evaluate", "latest", "--split", "val")
    monkeypatch.setattr(evaluation, "load_test", lambda *_: pytest.fail("a report looks at no test image"))
    assert lenet("report", "latest").out == f"runs/{run.id}/report.html\n"
    assert "% validation accuracy" in page_of(run).text
    said = json.loads(lenet("report", "latest", "--json").out)
    assert said == {"run": f"runs/{run.id}", "report": f"runs/{run.id}/report.html"}
    assert not run.evaluation_path("test").exists()


def without_an_epoch(run: Run) -> None:
    """Take back all that a run's epochs have left, as it is before the first one ends."""
    for path, kind in ((run.history_path, EpochRow), (run.steps_path, StepRow), (run.probe_path, ProbeRow)):
        path.write_text(header_line(kind))
    shutil.rmtree(run.checkpoints_path)
    run.checkpoints_path.mkdir()
    nothing = {"epochs": 0, "best_epoch": None, "best_val_loss": None, "best_val_accuracy": None}
    signed(run, status="running", stop_reason=None, weights_sha256=None, **nothing)


def test_a_run_that_is_training_is_reported_as_that(run: Run) -> None:
    signed(run, status="running", stop_reason=None)
    with exclusive_lock(run.path, print):
        page = page_of(run)
    assert "This run is still training: 2 epochs are done" in page.text
    assert f"To update this report later: lenet report runs/{run.id}" in page.text
    page = page_of(run)
    assert f"This run was killed: 2 epochs are done. To resume it: lenet train --resume runs/{run.id}" in page.text


def test_before_the_first_epoch_every_section_says_what_is_missing(run: Run) -> None:
    without_an_epoch(run)
    with exclusive_lock(run.path, print):
        text = page_of(run).text
    assert "Nothing has been measured yet." in text
    assert "No update has been recorded, so there is nothing to draw." in text
    assert "No epoch has been completed, so there are no weights to look at." in text
    assert "Nothing was recorded of what goes on inside." in text


def test_a_divergence_before_the_first_epoch_is_reported(lenet: Lenet, tmp_path: Path) -> None:
    quick = ("--limit-train", 1000, "--epochs", 1, "--set", "data.val_size=500", "--threads", 1)
    assert lenet("train", *quick, "--lr", 1e6).code == 4
    (path,) = (tmp_path / "runs").iterdir()
    text = page_of(Run(path)).text
    assert "Training diverged: the" in text
    assert "no epoch was completed" in text
    assert "Lower it" in text or "lower it" in text


def test_every_end_is_told(run: Run) -> None:
    for status in ("interrupted", "diverged", "failed", "finished"):
        told = status in ("diverged", "failed")
        signed(run, status=status, stop_reason=None, message="of some cause" if told else None)
        text = page_of(run).text
        assert (status in text, "of some cause" in text) == (True, told)


Damage = Callable[[Run], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "no history": (lambda run: run.history_path.unlink(), "history.csv: no such file"),
    "half a history": (lambda run: run.history_path.write_bytes(run.history_path.read_bytes()[:-9]), "95% interval"),
    "another history": (lambda run: run.history_path.write_text("a\n1\n"), "not the rows of EpochRow"),
    "no updates": (lambda run: run.steps_path.unlink(), "steps.csv: no such file"),
    "no probe": (lambda run: run.probe_path.unlink(), "probe.csv: no such file"),
    "no configuration": (lambda run: run.config_path.unlink(), "config.yaml: no such file"),
    "another configuration": (lambda run: run.config_path.write_text("seed: 1\n"), "not the one of this run"),
    "no weights": (lambda run: run.model_path.unlink(), "model.safetensors: no such file"),
    "weights of another run": (lambda run: signed(run, weights_sha256="0" * 64), "not the weights that manifest.json"),
    "no figures": (lambda run: (run.evaluation_path("test") / "metrics.json").unlink(), "metrics.json: no such file"),
    "no pictures": (
        lambda run: (run.evaluation_path("test") / "examples.safetensors").unlink(),
        "The images were not kept",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_and_the_rest_is_there(evaluated: Run, damage: str) -> None:
    do, complaint = DAMAGES[damage]
    do(evaluated)
    page = page_of(evaluated)
    assert complaint in page.text
    assert page.headings.count(2) == 12
    assert "How to do this again" in page.text
    assert str(evaluated.path) not in page.text  # nothing of a report names a directory of this machine


def test_an_old_evaluation_and_a_second_test_are_told(evaluated: Run) -> None:
    text = page_of(evaluated).text
    assert "Evaluate again" not in text
    assert "test evaluation no." not in text
    path = evaluated.evaluation_path("test") / "metrics.json"
    path.write_text(path.read_text().replace('"num_test_looks": 1', '"num_test_looks": 3'))
    signed(evaluated, weights_sha256="0" * 64)
    text = page_of(evaluated).text
    assert "the training has continued since. Evaluate again" in text
    assert "This was test evaluation no. 3" in text


def test_a_network_that_gets_nine_of_ten_wrong_fits_into_three_megabytes(
    run: Run, access: DataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_test(DataConfig(), access)
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(10), len(images))

    def guess(*_: object) -> Evaluation:
        labels, answers = images.labels.numpy(), probabilities.argmax(axis=1)
        names = tuple(map(str, range(10)))
        return Evaluation(names, images.indices.numpy(), labels, answers, probabilities, 2.3 * len(images))

    monkeypatch.setattr(evaluation, "evaluate", guess)
    evaluation.evaluate_runs([run], Split.TEST, evaluation.Evaluator(access))
    page = page_of(run)
    assert len(set(page.opened)) == 100
    assert len(page.sources) == 100 * 12 + 6 * 6 + 6 + 1 + 6 + 16
    assert "at most 12 per cell" in page.text
    assert "The 12 most confident." in page.text
    assert run.report_path.stat().st_size < 3_000_000


def test_very_long_histories_and_texts_fit_too(evaluated: Run) -> None:
    epochs = [f"{k},{k},0.1,0.5,0.5,0.5,0.5,1.0" for k in range(1, 30_001)]
    evaluated.history_path.write_text(header_line(EpochRow) + "\n".join(epochs) + "\n")
    many = {f"name {k}": "x" * 500 for k in range(3000)}
    signed(evaluated, status="failed", message="m" * 4_000_000, versions=many, data_files=many)  # 8 MB at most
    page = page_of(evaluated)
    assert "61 of 30,000 epochs" in page.text
    assert "2,960 more" in page.text
    assert evaluated.report_path.stat().st_size < 3_000_000


def test_more_classes_than_a_page_has_room_for_are_said(evaluated: Run) -> None:
    directory, names = evaluated.evaluation_path("test"), [f"class {k}" for k in range(40)]
    metrics = json.loads((directory / "metrics.json").read_text())
    metrics |= {"per_class": [{"class": name} for name in names], "num_images": 80, "num_correct": 40}
    (directory / "metrics.json").write_text(json.dumps(metrics))
    rows = [[str(int(i == j) + int((i + 1) % 40 == j)) for j in range(40)] for i in range(40)]
    lines = [",".join(["", *names]), *(",".join([name, *row]) for name, row in zip(names, rows, strict=True))]
    (directory / "confusion_matrix.csv").write_text("\n".join(lines) + "\n")
    page = page_of(evaluated)
    assert "A matrix of 40 classes does not fit on a page" in page.text
    assert "The 26 with the lowest F1" in page.text
    assert not page.opened


def test_a_sweep_is_refused_and_a_run_without_manifest_is_named(run: Run) -> None:
    signed(run, kind="sweep")
    with pytest.raises(ConfigError, match="reports are made of trainings"):
        write_report(run)
    run.manifest_path.write_text("{}")
    with pytest.raises(DataError, match=r"manifest\.json"):
        write_report(Run(run.path))
    assert not run.report_path.exists()


def test_a_text_of_a_run_is_text_in_the_page(evaluated: Run) -> None:
    tags = set(Outline(report_of(Run(evaluated.path))).tags)
    for payloads in TENS:
        put_everywhere(evaluated, payloads)
        page = page_of(evaluated)
        assert not set(page.tags) - tags, payloads
        assert page.tags.count("style") == page.tags.count("meta") - 4 == 1
        for k, payload in enumerate(payloads):
            assert " ".join(f"{one_line(payload)}{k} read as ".split()) in page.text
        assert "Training failed: " in page.text
    rename_classes(evaluated, "test", [f"{k}{'W' * 63}" for k in range(10)])
    assert f"3{'W' * 63} read as" in page_of(evaluated).text
