"""Training in several processes, as the launchers start them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny import encoder_checkpoint
from toy import LABELS, toy

pytestmark = pytest.mark.slow
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ACCELERATE = ["-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes=2"]
SECONDS = 240

PROGRAM = """
import json, os, sys
from pathlib import Path
from skgliclass import GLiClassClassifier
from skgliclass.training.loop import Run
from skgliclass.training.processes import joined_processes

folder, texts, y, epochs, watched = json.loads(sys.argv[1])


step = Run.step


def noted_step(self, rows):
    loss = step(self, rows)
    (Path(watched) / f"rank {processes.rank}").write_text(str(os.getpid()))
    return loss


Run.step = noted_step

clf = GLiClassClassifier(
    folder, trainable="all", max_epochs=epochs, batch_size=6, learning_rate=1e-3, device="cpu",
    random_state=0,
)
with joined_processes() as processes:
    clf.fit(texts, y)
if processes.is_first:
    clf.save_pretrained(Path(watched) / "tuned")
proba = clf.predict_proba(texts).tolist()
result = {"size": processes.size, "loss": clf.loss_curve_, "proba": proba}
(Path(watched) / f"result {processes.rank}.json").write_text(json.dumps(result))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An encoder without dropout, whose noise differs with the processes."""
    folder = encoder_checkpoint(tmp_path_factory.mktemp("model"), n_layers=1)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    file.write_text(json.dumps(config))
    return folder


def started(launcher, model, folder, epochs=3):
    """Start the program with a launcher; what it writes lies in the folder."""
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM)
    texts, y = toy(24)
    asked = json.dumps([str(model), texts, list(y), epochs, str(folder)])
    return subprocess.Popen(
        [sys.executable, *launcher, str(program), asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process):
    """Give what it printed; end all of it where it does not end by itself."""
    try:
        return "".join(process.communicate(timeout=SECONDS))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def results(folder):
    return [json.loads(file.read_text()) for file in sorted(folder.glob("result *.json"))]


@pytest.fixture(scope="module")
def alone(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    process = started([], model, folder)
    output = finished(process)
    assert process.returncode == 0, output
    (result,) = results(folder)
    assert result["size"] == 1
    return result


def test_torchrun_gives_the_loss_curve_of_one_process(model, alone, tmp_path):
    process = started(TORCHRUN, model, tmp_path / "run")
    output = finished(process)
    assert process.returncode == 0, output
    both = results(tmp_path / "run")
    assert [result["size"] for result in both] == [2, 2]
    for result in both:
        np.testing.assert_allclose(result["loss"], alone["loss"], rtol=1e-4)
        np.testing.assert_allclose(result["proba"], alone["proba"], atol=1e-3)
    assert both[0]["loss"] == both[1]["loss"]
    assert alone["loss"][-1] < alone["loss"][0]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all_of_them(model, tmp_path, rank):
    folder = tmp_path / "run"
    process = started(TORCHRUN, model, folder, epochs=100_000)
    ids = [folder / "rank 0", folder / "rank 1"]
    end = time.monotonic() + SECONDS
    # Until both are in the middle of it.
    while not all(file.exists() and file.read_text() for file in ids):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    workers = [int(file.read_text()) for file in ids]
    os.kill(workers[rank], signal.SIGKILL)
    output = finished(process)
    assert process.returncode != 0
    assert "SIGKILL" in output
    for worker in workers:
        assert not is_running(worker)
    assert not (folder / "tuned").exists()
    assert not results(folder)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.needs("accelerate")
def test_accelerate_starts_one_process_without_a_gpu_and_the_training_says_so(
    model, alone, tmp_path
):
    process = started(ACCELERATE, model, tmp_path / "run")
    output = finished(process)
    assert process.returncode == 0, output
    (result,) = results(tmp_path / "run")
    assert result["size"] == 1
    assert result["loss"] == alone["loss"]
    assert "torchrun --standalone --nproc-per-node" in output


def test_the_command_joins_what_a_launcher_started(model, tmp_path):
    texts, y = toy(12)
    data = tmp_path / "rows.json"
    rows = [
        {"text": text, "all_labels": LABELS, "true_labels": [label]}
        for text, label in zip(texts, y, strict=True)
    ]
    data.write_text(json.dumps(rows))
    command = ["-m", "skgliclass", "train", str(data), "--model", str(model), "--output"]
    options = ["--max-epochs", "2", "--device", "cpu", "--join-processes"]
    run = subprocess.run(
        [sys.executable, *TORCHRUN, *command, str(tmp_path / "tuned"), *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert run.stdout.count("written to") == 1
    assert "processes         2" in run.stdout
    assert (tmp_path / "tuned" / "model.safetensors").is_file()
