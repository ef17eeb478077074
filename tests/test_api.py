"""`import lenet_mnist`: what the commands do, from somebody else's program, which it leaves as it was."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Answer
from tests.once import draw_roughly, read_once

import lenet_mnist
from lenet_mnist import api, options
from lenet_mnist.config_file import Layer
from lenet_mnist.errors import ConfigError, DataError, StorageError
from lenet_mnist.files.locks import exclusive_lock
from lenet_mnist.runs.run import Run
from lenet_mnist.training.rows import EpochRow, StepRow

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
FUNCTIONS = ("train", "load", "sweep", "compare", "cross_validate", "load_data", "evaluate")
DOCS = "\n".join(str(inspect.getdoc(each)) for each in (lenet_mnist, *(getattr(api, name) for name in FUNCTIONS)))
EXAMPLES = {
    "page": re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL),
    "docstrings": re.findall(r"^    (.*)$", DOCS, re.MULTILINE),
}
QUICK: dict[str, Any] = {
    "limit_train": 300,
    "epochs": 1,
    "threads": 1,
    "set": {"data.val_size": 500},
    "progress": False,
}
FLAGS = ("--limit-train", "300", "--epochs", "1", "--threads", "1", "--set", "data.val_size=500")


@pytest.fixture(autouse=True)
def _places(mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_once(monkeypatch)
    draw_roughly(monkeypatch, dots=0)
    monkeypatch.setenv("LENET_DATA_DIR", str(mnist_dir))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(run: Run) -> "lenet_mnist.Run":
    """A finished run of one's own."""
    return lenet_mnist.load(run.path)


def digest(run: "lenet_mnist.Run") -> str:
    return str(json.loads((run.path / "manifest.json").read_text())["weights_sha256"])


def test_the_front_door_opens_without_torch() -> None:
    program = "import sys, lenet_mnist as l; print('torch' in sys.modules, {*l.__all__} <= {*dir(l)})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
    assert all(hasattr(lenet_mnist, name) for name in lenet_mnist.__all__)
    assert not hasattr(lenet_mnist, "tarin")


def test_a_training_is_that_of_the_command_and_tells_its_rows(lenet: Callable[..., Answer]) -> None:
    epochs: list[EpochRow] = []
    steps: list[StepRow] = []
    run = lenet_mnist.train("tanh", **QUICK, batch_size=np.int64(30), on_epoch=epochs.append, on_step=steps.append)
    (typed,) = json.loads(lenet("train", "--config", "tanh", *FLAGS, "--batch-size", 30, "--json").out)["runs"]
    there = json.loads((run.path / "manifest.json").read_text())
    assert (there["weights_sha256"], there["config_sha256"]) == (typed["weights_sha256"], typed["config_sha256"])
    assert (run.status, there["command"]) == ("finished", "lenet_mnist.train")
    assert run.history["val_loss"].tolist() == [row.val_loss for row in epochs]
    assert run.steps["step"].tolist() == [row.step for row in steps] == list(range(1, 11))
    assert run.probe["layer"].tolist()[:2] == ["C1", "C3"]
    assert list(run.probe.frame["epoch"].unique()) == [0, 1]
    assert lenet_mnist.load().path == Path(typed["run"]).absolute()
    assert lenet_mnist.load(run.path.name) == run
    assert run.path.name in str(run)
    assert run._repr_html_().count("<img src=") == 1


def test_an_evaluation_is_that_of_the_command(trained: "lenet_mnist.Run", lenet: Callable[..., Answer]) -> None:
    seen = trained.evaluate("val")
    typed = json.loads(lenet("evaluate", trained.path, "--split", "val", "--json").out)
    assert {key: seen.values[key] for key in typed if key != "directory"} | {"directory": typed["directory"]} == typed
    assert (np.trace(seen.confusion_matrix), seen.loss) == (round(500 * seen.accuracy), typed["loss"])
    assert f"{seen.accuracy:.2%}" in str(seen)
    assert list(seen.figures) == ["confusion_matrix", "misclassified", "calibration"]
    for figure in (trained.plot_confusion("val"), trained.plot_mistakes("val"), trained.plot_layers()):
        assert figure._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="test"):
        trained.plot_confusion()
    for count in (1, 2):
        assert trained.evaluate().values["num_test_looks"] == count


def test_a_module_of_ones_own_is_evaluated_as_a_run_is(trained: "lenet_mnist.Run") -> None:
    network, seen = trained.network, trained.evaluate("val")
    assert not network.training
    network.train()
    own = lenet_mnist.evaluate(network, limit_train=300, set={"data.val_size": 500})
    assert network.training
    assert np.array_equal(own.confusion_matrix, seen.confusion_matrix)
    assert own.loss == pytest.approx(seen.loss)
    with pytest.raises(ConfigError, match=re.escape("(500, 784), expected (500, 10)")):
        lenet_mnist.evaluate(torch.nn.Flatten(), set={"data.val_size": 500})


def test_arrays_are_read_whatever_their_form(trained: "lenet_mnist.Run") -> None:
    images = lenet_mnist.load_data(set={"data.val_size": 500}).val.images[:20]
    read = trained.predict(images)
    assert read.labels.tolist() == read.probabilities.argmax(axis=1).tolist()
    forms = (images[:, None], images / 1.0, torch.from_numpy(images), images.tolist(), images.astype(np.int32))
    for form in forms:
        assert np.array_equal(trained.predict(form).probabilities, read.probabilities)
    assert trained.predict(images[0]).labels.tolist() == read.labels[:1].tolist()
    logits = trained.network(torch.from_numpy(images)).double()
    assert logits.softmax(dim=1).tolist() == pytest.approx(read.probabilities)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 28, 28)),
        np.zeros((20, 28)),
        np.zeros((0, 28, 28)),
        np.full((28, 28), 300),
        np.full((28, 28), -1),
        np.full((28, 28), np.nan),
        np.full((28, 28), 0.5),
        np.zeros((28, 28), bool),
        [[1, 2], [3]],
        [],
        None,
    ],
)
def test_what_is_no_image_is_refused_in_one_line(trained: "lenet_mnist.Run", images: Any) -> None:
    with pytest.raises(DataError) as refused:
        trained.predict(images)
    assert "\n" not in str(refused.value)


def test_pictures_are_read_as_by_the_command(trained: "lenet_mnist.Run", lenet: Callable[..., Answer]) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:23, 13:16] = 255
    Image.fromarray(pixels).save("one.png")
    Path("none.png").write_text("no picture")
    answer, refusal = trained.predict(["one.png", Path("none.png")])
    typed = json.loads(lenet("predict", "one.png", "none.png", "--run", trained.path, "--json").out)["pictures"]
    assert [answer.__dict__ | {"doubts": list(answer.doubts)}, refusal.__dict__] == typed
    assert answer.prediction in repr(trained.predict("one.png"))
    with pytest.raises(DataError, match=re.escape("none.png")):
        trained.predict("none.png")


def test_a_section_of_values_changes_these_alone() -> None:
    values = {"training": {"patience": 3}, "augmentation": {"shift": 0.5}}
    found = options.resolved_options("accurate", {"lr": 0.01, "set": values, "epochs": 2}).config
    expected = {"training.patience": 3, "augmentation.shift": 0.5, "lr": 0.01, "epochs": 2}
    given = {"set": {key: value for key, value in expected.items() if "." in key}, "lr": 0.01, "epochs": 2}
    assert found == options.resolved_options("accurate", given).config
    assert (found.training.learning_rate, found.augmentation.rotation, found.augmentation.shift) == (0.01, 10, 0.5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lenet_mnist.train("rleu"), "Did you mean relu"),
        (lambda: lenet_mnist.train(batchsize=3), "did you mean batch_size"),
        (lambda: lenet_mnist.train(max_epoch=3), "did you mean epochs"),
        (lambda: lenet_mnist.train(lr="high"), "lr: training.learning_rate: "),
        (lambda: lenet_mnist.train(set={"training.schedul": "cosine"}), "Did you mean training.schedule"),
        (lambda: lenet_mnist.train(set="training.schedule=cosine"), "set: expected values by key"),
        (lambda: lenet_mnist.cross_validate(repeats=0), "0 repeats"),
        (lambda: lenet_mnist.load("nowhere"), "no such run"),
        (lambda: lenet_mnist.load(lr=0.1), "lr: no such option"),
        (lambda: lenet_mnist.load_data(source="nowhere"), "source: data.source: nowhere"),
        (lambda: lenet_mnist.compare("a", "b", split="tset"), "test or val"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        call()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not Path("runs").exists()


def test_an_interrupt_keeps_the_run_and_a_resume_comes_to_the_same_weights(capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = (signal.SIGTERM, signal.SIGHUP)
    before, others = signal.getsignal(signal.SIGINT), [signal.getsignal(each) for each in elsewhere]

    def interrupt(row: StepRow) -> None:
        assert [signal.getsignal(each) for each in elsewhere] == others
        if row.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    whole, run = lenet_mnist.train(**QUICK), lenet_mnist.train(**QUICK, on_step=interrupt)
    assert (run.status, "run.resume()" in capsys.readouterr().out) == ("interrupted", True)
    assert (run.steps["step"].tolist(), signal.getsignal(signal.SIGINT)) == ([1, 2, 3], before)
    assert run._repr_html_().count("<img src=") == 1
    rest: list[StepRow] = []
    for _ in range(2):  # as when a cell is run twice
        assert run.resume(progress=False, on_step=rest.append).status == "finished"
        assert digest(run) == digest(whole)
    assert [row.step for row in rest] == [4, 5]


def test_a_second_interrupt_raises_and_keeps_the_run_too() -> None:
    def interrupt(row: StepRow) -> None:
        for _ in range(2 * (row.step == 3)):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        lenet_mnist.train(**QUICK, on_step=interrupt)
    run = lenet_mnist.load()
    assert (run.status, run.resume(progress=False).status) == ("interrupted", "finished")


def test_a_divergence_is_a_result() -> None:
    run = lenet_mnist.train(**QUICK, lr=1e5)
    assert (run.status, "diverged" in str(run.diagnose())) == ("diverged", True)


def test_in_a_thread_and_after_an_error_everything_is_as_before() -> None:
    class OwnError(Exception):
        pass

    def fail(_row: EpochRow) -> None:
        raise OwnError

    cudnn, ended = torch.backends.cudnn, []
    torch.set_num_threads(2)
    before = torch.get_num_threads(), cudnn.deterministic, cudnn.allow_tf32, torch.random.get_rng_state().tolist()
    threads = [threading.Thread(target=lambda: ended.append(lenet_mnist.train(**QUICK).status)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(OwnError):
        lenet_mnist.train(**QUICK, on_epoch=fail)
    assert ended == ["finished", "finished"]
    assert lenet_mnist.load().status in ("failed", "finished")  # of one second
    assert before == (
        *(torch.get_num_threads(), cudnn.deterministic, cudnn.allow_tf32),
        torch.random.get_rng_state().tolist(),
    )


def test_a_callback_may_evaluate_a_run_with_other_threads() -> None:
    longer = {**QUICK, "epochs": 2}
    other = lenet_mnist.train(**QUICK | {"threads": 2})
    disturbed = lenet_mnist.train(**longer, on_epoch=lambda _row: other.evaluate("val"))
    assert digest(disturbed) == digest(lenet_mnist.train(**longer))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_in_a_pool_of_forked_processes_trainings_come_to_the_same_weights() -> None:
    """With torch's own threads, which a forked process does not have."""
    program = f"""
import json, multiprocessing, warnings
from concurrent.futures import ProcessPoolExecutor
import lenet_mnist, torch
warnings.simplefilter("ignore")
(torch.ones(300, 300) @ torch.ones(300, 300)).sum()
quick = {{**{QUICK!r}, "threads": None, "engine": "torch"}}
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    runs = [future.result() for future in [pool.submit(lenet_mnist.train, "relu", **quick) for _ in range(2)]]
print(json.dumps([json.loads((run.path / "manifest.json").read_text())["weights_sha256"] for run in runs]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 2 * [digest(lenet_mnist.train(**QUICK, engine="torch"))]


def test_a_run_that_is_gone_or_being_written_is_an_error_of_one_line(trained: "lenet_mnist.Run") -> None:
    with exclusive_lock(trained.path, print), pytest.raises(StorageError, match="locked"):
        trained.resume(progress=False)
    shutil.rmtree(trained.path)
    assert "no such file" in trained._repr_html_()
    for ask in (lambda: trained.history, trained.evaluate, trained.plot_loss, lambda: lenet_mnist.load(trained.path)):
        with pytest.raises((ConfigError, DataError, StorageError), match=re.escape(trained.path.name)):
            ask()


def test_a_directory_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        lenet_mnist.train(**QUICK, runs_dir=tmp_path / "file" / "runs")


class Kernel:
    """A real kernel, as a notebook has it."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def shown(self, code: str, interrupt_at: str = "nowhere") -> list[tuple[str, dict[str, Any]]]:
        """Run a cell, and return what it shows; interrupt it once that is a message of this kind."""
        cell, found = self.client.execute(code), []
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != cell:
                continue
            found.append((message["msg_type"], message["content"]))
            if message["msg_type"] == interrupt_at:
                self.manager.interrupt_kernel()
                interrupt_at = "nowhere"
            if message["content"].get("execution_state") == "idle":
                return found


def test_in_a_notebook_a_training_draws_its_curve_and_an_interrupt_keeps_it() -> None:
    pytest.importorskip("ipykernel")
    kernel = Kernel()
    try:
        kernel.shown(f"import lenet_mnist; quick = {QUICK!r} | {{'progress': True}}")
        seen = kernel.shown("run = lenet_mnist.train(**quick | {'epochs': 100000})", interrupt_at="update_display_data")
        kinds = [kind for kind, content in seen if "image/png;base64" in content.get("data", {}).get("text/html", "")]
        assert (kinds[0], set(kinds[1:])) == ("display_data", {"update_display_data"})
        assert "interrupted" in seen[-2][1]["text"]
        ((_, shown),) = [each for each in kernel.shown("run") if each[0] == "execute_result"]
        assert "status  interrupted" in shown["data"]["text/html"]
        ((_, shown),) = [each for each in kernel.shown("run.plot_accuracy()") if each[0] == "execute_result"]
        assert "image/png" in shown["data"]
    finally:
        kernel.client.stop_channels()
        kernel.manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("place", EXAMPLES)
def test_every_example_runs(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On few images; the rest is as it stands there."""
    few = Layer("the test", {"data.limit_train": 300, "data.val_size": 500, "training.threads": 1})
    resolve = options.resolve
    monkeypatch.setattr(options, "resolve", lambda layers: resolve([*layers, few]))
    pixels = np.zeros((28, 28), np.uint8)
    pixels[5:23, 13:16] = 255
    Image.fromarray(pixels).save("photo.jpg")
    names: dict[str, Any] = {}
    assert len(EXAMPLES[place]) > 8
    for block in EXAMPLES[place]:
        exec(block, names)
    assert names["run"].status == "finished"
    if "sent" in names:
        assert (names["sent"][-1]["epoch"], names["scores"].accuracy > 0.5) == (2, True)
