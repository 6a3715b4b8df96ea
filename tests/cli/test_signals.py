"""Commands in processes of their own, stopped by real signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tiny import sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier
from skgliclass.datasets import from_arrays, write_examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    sentence_transformer(folder / "model")
    write_examples(folder / "data.json", from_arrays(*toy(18)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_stopped_leaves_its_best_weights(folder, tmp_path, number, status):
    command = [sys.executable, "-m", "skgliclass", "train", "data.json", "--model", "model"]
    options = ["--output", tmp_path / "tuned", "--trainable", "all", "--max-epochs", "1000000"]
    checkpoints = ["--checkpoint-folder", tmp_path / "run"]
    process = subprocess.Popen(
        [*command, *options, *checkpoints], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    # Written after the first epoch.
    while not (tmp_path / "run" / "checkpoint.safetensors").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status
    assert said.startswith("skgliclass: interrupted after ")
    assert len(said.splitlines()) == 1
    clf = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert clf.classes_.tolist() == LABELS
    assert json.loads((tmp_path / "tuned" / "skgliclass.json").read_text())["classes"] == LABELS
    # Another run may go on where this one stopped.
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_a_command_in_silence(folder, tmp_path):
    (tmp_path / "texts.txt").write_text("the fox\n" * 20_000)
    read, write = os.pipe()
    command = [sys.executable, "-m", "skgliclass", "classify", tmp_path / "texts.txt"]
    process = subprocess.Popen(
        [*command, "--model", "model", "--labels", *LABELS],
        cwd=folder,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, said = process.communicate(timeout=120)
    assert said == ""
    assert process.returncode == 1
