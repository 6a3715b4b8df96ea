"""A fit goes on from its checkpoint as if it had never stopped."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from damage import DAMAGE_OF_TENSORS, change_checkpoint
from tiny import encoder_checkpoint, reference_checkpoint
from toy import LABELS, toy

from skgliclass import GLiClassClassifier
from skgliclass.estimators import callbacks
from skgliclass.training import checkpoint
from skgliclass.training.checkpoint import NAME, fingerprint

TEXTS, Y = toy(14)
X_VAL, Y_VAL = toy(6, seed=3)
HELD_OUT = {"X_val": X_VAL, "y_val": Y_VAL}
# Three steps an epoch, the last one smaller.
QUICK = {
    "trainable": "all",
    "max_epochs": 3,
    "batch_size": 6,
    "learning_rate": 0.01,
    "random_state": 0,
}


@pytest.fixture(scope="module", params=["uni", "bi"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "bi":
        return str(encoder_checkpoint(folder, "roberta"))
    reference_checkpoint(folder)
    return str(folder)


def stop_after(monkeypatch, n_steps):
    """End the process, as far as a test can: by an error that nothing catches."""
    on_step, steps = callbacks.FitCallbacks.on_step, []

    class PowerCutError(BaseException):
        pass

    def stop(self, loss):
        on_step(self, loss)
        steps.append(loss)
        if len(steps) == n_steps:
            raise PowerCutError

    monkeypatch.setattr(callbacks.FitCallbacks, "on_step", stop)
    return PowerCutError, steps


def make(model, folder=None, **parameters):
    folder = None if folder is None else str(folder)
    return GLiClassClassifier(model, LABELS, checkpoint_folder=folder, **{**QUICK, **parameters})


def weights_of(clf):
    weights = clf._fit_state.weights
    factors = {(name, i): pair[i] for name, pair in weights.low_rank.items() for i in (0, 1)}
    return {**weights.replaced, **factors}


@pytest.mark.parametrize(
    ("trainable", "held_out"),
    [
        pytest.param("all", HELD_OUT, id="all-held out"),
        *(
            pytest.param(which, data, id=f"{which}-{bool(data)}", marks=pytest.mark.slow)
            for which, data in [
                ("all", {}),
                ("lora", {}),
                ("lora", HELD_OUT),
                ("head", {}),
                ("head", HELD_OUT),
            ]
        ),
    ],
)
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0.0, id="every step"),
        pytest.param(600.0, id="every epoch", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_fit_ends_with_the_same_weights_to_the_bit(
    model, monkeypatch, tmp_path, held_out, trainable, seconds
):
    monkeypatch.setattr(checkpoint, "SECONDS", seconds)
    expected = make(model, trainable=trainable).fit(TEXTS, Y, **held_out)
    folder = tmp_path / "new" / "folder"
    with monkeypatch.context() as patch:
        error, _ = stop_after(patch, 5)
        with pytest.raises(error):
            make(model, folder, trainable=trainable).fit(TEXTS, Y, **held_out)
    assert (folder / NAME).is_file()
    _, steps = stop_after(monkeypatch, -1)
    resumed = make(model, folder, trainable=trainable).fit(TEXTS, Y, **held_out)
    # What was made after the last checkpoint is made again.
    assert len(steps) == (6 if seconds else 5)
    assert resumed.loss_curve_ == expected.loss_curve_
    assert resumed.validation_scores_ == expected.validation_scores_
    assert resumed.n_iter_ == expected.n_iter_
    weights = weights_of(resumed)
    assert weights.keys() == weights_of(expected).keys()
    for name, value in weights_of(expected).items():
        assert torch.equal(weights[name], value), name
    np.testing.assert_array_equal(resumed.predict_proba(TEXTS), expected.predict_proba(TEXTS))
    assert list(folder.iterdir()) == []


def test_an_interrupted_fit_goes_on(model, monkeypatch, tmp_path):
    expected = make(model).fit(TEXTS, Y)
    with monkeypatch.context() as patch:

        def interrupt(self, loss):
            if (tmp_path / NAME).is_file():
                raise KeyboardInterrupt

        patch.setattr(callbacks.FitCallbacks, "on_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(model, tmp_path).fit(TEXTS, Y)
    resumed = make(model, tmp_path).fit(TEXTS, Y)
    np.testing.assert_array_equal(resumed.predict_proba(TEXTS), expected.predict_proba(TEXTS))


@pytest.fixture(scope="module")
def stopped_once(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        error, _ = stop_after(patch, 4)
        with pytest.raises(error):
            make(model, folder).fit(TEXTS, Y)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    return shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("parameters", "arguments", "names"),
    [
        ({"learning_rate": 0.02}, (TEXTS, Y), "learning_rate"),
        ({"max_epochs": 4}, (TEXTS, Y), "max_epochs"),
        ({"random_state": 1}, (TEXTS, Y), "seed"),
        ({"focal_gamma": 2.0}, (TEXTS, Y), "loss"),
        ({"trainable": "head"}, (TEXTS, Y), "trainable"),
        ({"max_length": 64}, (TEXTS, Y), "max_length"),
        ({}, (TEXTS[::-1], Y), "texts or labels"),
        ({}, (TEXTS, np.roll(Y, 1)), "texts or labels"),
        ({}, (TEXTS[:-1], Y[:-1]), "texts or labels"),
        ({}, (TEXTS, Y, np.arange(1, 15)), "texts or labels"),
        ({"task_description": "What is it?"}, (TEXTS, Y), "texts or labels"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(model, stopped, parameters, arguments, names):
    clf = make(model, stopped, **parameters)
    with pytest.raises(ValueError, match=f"another fit, which differs in .*{names}"):
        clf.fit(*arguments)
    assert clf._fit_state is None
    assert (stopped / NAME).is_file()


def test_a_checkpoint_of_another_model_is_refused(stopped, tmp_path):
    other = encoder_checkpoint(tmp_path / "other", "bert", seed=9)
    with pytest.raises(ValueError, match="differs in model"):
        make(str(other), stopped).fit(TEXTS, Y)


def test_other_held_out_texts_are_refused(model, stopped):
    with pytest.raises(ValueError, match="differs in the validation data"):
        make(model, stopped).fit(TEXTS, Y, X_val=X_VAL, y_val=Y_VAL)


@pytest.mark.parametrize("content", [b"", b"torn", b"\0" * 100])
def test_a_damaged_checkpoint_is_named(model, stopped, content):
    (stopped / NAME).write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is not a checkpoint"):
        make(model, stopped).fit(TEXTS, Y)


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts, tensors: facts.clear(),
        lambda facts, tensors: facts.update(identity=[1]),
        lambda facts, tensors: facts.update(place={"epoch": 1, "made up": 2}),
        lambda facts, tensors: facts.pop("n_stale"),
        lambda facts, tensors: facts.update(validations=None),
        lambda facts, tensors: facts.update(step="x"),
        lambda facts, tensors: facts.update(step=-1),
        lambda facts, tensors: facts.update(n_stale=None),
        lambda facts, tensors: facts["place"].update(epoch="x"),
        lambda facts, tensors: facts["place"].update(n_batches=-1),
        lambda facts, tensors: facts["result"].update(loss_curve=["x"]),
        lambda facts, tensors: facts["result"].update(loss_curve=None),
        *DAMAGE_OF_TENSORS,
    ],
)
def test_a_checkpoint_of_which_something_is_missing_is_named(model, stopped, damage):
    change_checkpoint(stopped / NAME, "fit", damage)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is not a checkpoint"):
        make(model, stopped).fit(TEXTS, Y)


def test_the_best_weights_of_a_checkpoint_are_those_of_the_model(model, monkeypatch, tmp_path):
    error, _ = stop_after(monkeypatch, 4)
    held_out = HELD_OUT
    with pytest.raises(error):
        make(model, tmp_path, trainable="head").fit(TEXTS, Y, **held_out)
    whole = (tmp_path / NAME).read_bytes()
    for change in (lambda value: value[:1], lambda value: value * np.nan, None):

        def damage(facts, tensors, change=change):
            name = next(name for name in tensors if name.startswith("best."))
            value = tensors.pop(name)
            if change is not None:
                tensors[name] = change(value).contiguous()

        (tmp_path / NAME).write_bytes(whole)
        change_checkpoint(tmp_path / NAME, "fit", damage)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is not a checkpoint"):
            make(model, tmp_path, trainable="head").fit(TEXTS, Y, **held_out)


def test_a_disk_that_is_full_leaves_the_checkpoint_before(model, monkeypatch, stopped):
    before = (stopped / NAME).read_bytes()

    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"checkpoint\.safetensors' could not be written: No space"):
        make(model, stopped).fit(TEXTS, Y)
    assert (stopped / NAME).read_bytes() == before
    assert [path.name for path in stopped.iterdir()] == [NAME]


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_a_checkpoint_needs_numbers_that_another_process_can_draw(model, tmp_path, random_state):
    with pytest.raises(ValueError, match="needs an int as random_state"):
        make(model, tmp_path, random_state=random_state).fit(TEXTS, Y)


def test_partial_fit_keeps_no_checkpoint(model, tmp_path):
    make(model, tmp_path / "folder", random_state=None).partial_fit(TEXTS, Y)
    assert not (tmp_path / "folder").exists()


def test_fingerprints_tell_values_apart():
    values = [
        np.zeros(3),
        np.zeros(4),
        np.zeros(3, np.float32),
        np.zeros((3, 1)),
        torch.zeros(3),
        torch.zeros(3, dtype=torch.bfloat16),
        ["ab", "c"],
        ["a", "bc"],
        [["a"], ["b"]],
        [["a", "b"], []],
        {"a": 1},
        {"a": "1"},
        None,
        "\ud800",
        float("nan"),
    ]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint(np.arange(6).reshape(2, 3).T) == fingerprint(
        np.arange(6).reshape(2, 3).T.copy()
    )


_FIT = """
import sys
import numpy as np
from skgliclass import GLiClassClassifier
from skgliclass.training import checkpoint

checkpoint.SECONDS = 0.0
model, folder, output = sys.argv[1:]
texts = ["a fox jumps over the dog", "see the world by day", "a café at 20 degrees"] * 20
clf = GLiClassClassifier(model, trainable="all", max_epochs=12, batch_size=4, learning_rate=0.01,
                         random_state=0, checkpoint_folder=folder or None, verbose=1, device="cpu")
np.save(output, clf.fit(texts, ["sport", "travel", "music"] * 20).predict_proba(texts))
"""


@pytest.mark.slow
def test_killed_processes_lose_nothing(tmp_path):
    """Killed three times, at any moment, before one comes to the end."""
    model = encoder_checkpoint(tmp_path / "model")

    def start(folder, output):
        command = [sys.executable, "-c", _FIT, str(model), str(folder), str(tmp_path / output)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    assert start("", "expected.npy").wait(120) == 0
    rng = np.random.default_rng(0)
    path = tmp_path / "folder" / NAME
    for _ in range(3):
        process = start(tmp_path / "folder", "resumed.npy")
        written = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns != written):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert start(tmp_path / "folder", "resumed.npy").wait(120) == 0
    expected, resumed = (np.load(tmp_path / f"{n}.npy") for n in ("expected", "resumed"))
    np.testing.assert_array_equal(expected, resumed)
