"""The networks that come with lenet are what docs/networks.md says."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Answer

from lenet_mnist.config_file import load_config
from lenet_mnist.reporting.report import report_of
from lenet_mnist.runs.listing import NETWORKS, list_runs
from lenet_mnist.runs.run import Run
from lenet_mnist.sections import flat_values

SHIPPED = {run.name: run for run in list_runs(NETWORKS)}
PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
_LEFT_OPEN = ("name", "training.threads", "training.teachers")  # by a recipe


def test_there_are_four_small_enough_to_travel() -> None:
    assert set(SHIPPED) == {"relu", "sigmoid", "record", "record-sigmoid"}
    files = [path for path in NETWORKS.rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 1_400_000
    assert not [path.name for path in files if path.name == ".lock" or path.name.startswith("step-")]


@pytest.mark.parametrize("run", SHIPPED.values(), ids=SHIPPED)
def test_each_is_seed_0_of_its_recipe_and_was_looked_at_once(run: Run, lenet: Callable[..., Answer]) -> None:
    own = {key: value for key, value in flat_values(run.config).items() if key not in _LEFT_OPEN}
    assert own == {
        key: value for key, value in flat_values(load_config(run.name).config).items() if key not in _LEFT_OPEN
    }
    assert (run.config.seed, run.manifest.status, run.num_test_looks()) == (0, "finished", 1)
    assert len(run.config.training.teachers) == {"record": 30, "record-sigmoid": 10}.get(run.name, 0)
    assert ("Of this training not all updates" in report_of(run)) == run.name.startswith("record")
    verified = lenet("verify", run.name)
    assert verified.code == 0, verified.out
    metrics = json.loads((run.evaluation_path("test") / "metrics.json").read_text())
    said = [line for line in PAGE.read_text().splitlines() if run.id in line]
    assert len(said) == 1
    assert str(run.manifest.weights_sha256) in said[0]
    assert f"| {metrics['accuracy']:.2%} |" in said[0]
