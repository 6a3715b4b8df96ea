"""What fits, predictions, saves and loads leave as they found it, from any number of threads."""

import copy
import itertools
import logging
import os
import random
import signal
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import encoder_checkpoint, reference_checkpoint
from toy import LABELS, toy, toy_indicator
from transformers.utils import logging as transformers_logging

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, GLiClassTransformer
from skgliclass.loading.quiet import quiet

TEXTS, Y = toy(12)
MANY_TEXTS, MATRIX = toy_indicator(12)
QUICK = {
    "trainable": "all",
    "max_epochs": 2,
    "learning_rate": 0.01,
    "batch_size": 6,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models whose backbones drop out, of every kind of attention and layout."""
    folder = tmp_path_factory.mktemp("models")
    reference_checkpoint(folder / "uni", "bert")
    reference_checkpoint(folder / "enc-dec", "t5", architecture_type="encoder-decoder")
    reference_checkpoint(folder / "fused", "bert", architecture_type="bi-encoder-fused")
    return {
        "uni": str(folder / "uni"),
        "bi": str(encoder_checkpoint(folder / "bi", "roberta")),
        "encoder-decoder": str(folder / "enc-dec"),
        "fused": str(folder / "fused"),
    }


def surroundings():
    """Give everything that belongs to the process, and so to everybody."""
    kinds, keys, position, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "environment": dict(os.environ),
        "working directory": Path.cwd(),
        "random": random.getstate(),
        "numpy": (kinds, keys.tolist(), position, *rest),
        "numpy errors": np.geterr(),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "threads of a new thread": _in_a_new_thread(torch.get_num_threads),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "cuda": torch.cuda.is_initialized(),
        "filters": copy.copy(warnings.filters),
        "showwarning": warnings.showwarning,
        "verbosity": transformers_logging.get_verbosity(),
        "bars": transformers_logging.is_progress_bar_enabled(),
        "log levels": _log_levels(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),
        "excepthook": threading.excepthook,
    }


def _in_a_new_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def _log_levels():
    root = logging.getLogger()
    names = ("skgliclass", "transformers", "torch", "torch.onnx", "sklearn")
    return root.level, list(root.handlers), [logging.getLogger(name).level for name in names]


def work(model, folder, seed=0):
    """Do all that users do, with what draws at random while it trains."""
    one = GLiClassClassifier(model, LABELS, **{**QUICK, "random_state": seed}, early_stopping=True)
    one.fit(TEXTS, Y, X_val=TEXTS, y_val=Y).partial_fit(TEXTS, Y)
    many = GLiClassMultiLabelClassifier(model, LABELS, **{**QUICK, "trainable": "head"})
    many.fit(MANY_TEXTS, MATRIX)
    one.save_pretrained(folder)
    again = GLiClassClassifier.from_pretrained(folder)
    GLiClassTransformer(model, LABELS).fit_transform(TEXTS)
    return again.predict_proba(TEXTS), many.predict_proba(TEXTS), one.predict_frame(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 4])
def test_the_surroundings_are_as_before(folders, tmp_path, monkeypatch, n_threads):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    work(folders["uni"], tmp_path / "warm")
    before = surroundings()
    with ThreadPoolExecutor(n_threads) as pool:
        running = [
            pool.submit(work, folders["uni"], tmp_path / f"of {i}") for i in range(n_threads)
        ]
        for job in running:
            job.result()
    after = surroundings()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}


@pytest.mark.parametrize(
    ("kind", "trainable"),
    [
        ("uni", "lora"),
        ("bi", "all"),
        pytest.param("uni", "all", marks=pytest.mark.slow),
        pytest.param("encoder-decoder", "all", marks=pytest.mark.slow),
        pytest.param("fused", "lora", marks=pytest.mark.slow),
    ],
)
def test_fits_at_once_give_what_they_give_one_after_the_other(folders, tmp_path, kind, trainable):
    model = folders[kind]
    settings = {
        **QUICK,
        "max_epochs": 1,
        "gradient_checkpointing": kind == "uni",
        "trainable": trainable,
    }

    def fit(seed):
        clf = GLiClassClassifier(model, LABELS, **{**settings, "random_state": seed})
        return clf.fit(TEXTS, Y).predict_proba(TEXTS)

    def draw_and_load():
        """Do what others do in a process, to their generators and with models of their own."""
        for i in range(3):
            reference_checkpoint(tmp_path / str(i), n_layers=1, seed=i)
            GLiClassClassifier(str(tmp_path / str(i)), LABELS).predict(TEXTS[:1])
            torch.rand(100)

    one_by_one = [fit(seed) for seed in (0, 1, 2)]
    with torch.random.fork_rng(devices=[]), ThreadPoolExecutor(4) as pool:
        besides = pool.submit(draw_and_load)
        at_once = list(pool.map(fit, (0, 1, 2)))
        besides.result()
    assert np.abs(one_by_one[0] - one_by_one[1]).max() > 1e-6
    for alone, together in zip(one_by_one, at_once, strict=True):
        np.testing.assert_array_equal(alone, together)


def test_a_fit_on_the_cpu_does_not_touch_other_generators(folders, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("seeded another generator than its own")

    generators = (
        (torch, "manual_seed"),
        (torch, "seed"),
        (torch, "set_rng_state"),
        (torch.cuda, "manual_seed_all"),
        (torch.cuda, "manual_seed"),
        (torch.cuda, "set_rng_state"),
        (random, "seed"),
        (np.random, "seed"),
    )
    with monkeypatch.context() as patch:
        for place, name in generators:
            patch.setattr(place, name, refuse)
        for options in ({}, {"trainable": "lora"}, {"gradient_checkpointing": True}):
            clf = GLiClassClassifier(folders["uni"], LABELS, **{**QUICK, **options}, device="cpu")
            clf.fit(TEXTS, Y).partial_fit(TEXTS, Y)


# Predictions while another thread fits.


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_a_prediction_while_another_thread_fits_is_of_one_fit(folders, cls):
    """Labels, thresholds, temperature and weights of the one or of the other, never of both."""
    many = cls is GLiClassMultiLabelClassifier
    methods = ["predict", "predict_proba", "decision_function", "predict_frame"]
    methods += ["predict_labels"] if many else []
    label_sets = [["music", "sport", "travel"], ["anger", "joy"]]
    wrapped = [[[label] for label in labels] if many else labels for labels in label_sets]
    clf = cls(folders["uni"], max_epochs=0)

    def results(method):
        result = getattr(clf, method)(TEXTS[:4])
        columns = list(result.columns) if method == "predict_frame" else None
        return columns, np.asarray(result, dtype=object).tolist()

    allowed = {method: [] for method in methods}
    for y in wrapped:
        clf.fit(TEXTS[: len(y)], y)
        for method in methods:
            allowed[method].append(results(method))
    stop = threading.Event()

    def refit():
        for i in itertools.count():
            if stop.is_set():
                break
            clf.fit(TEXTS[: len(wrapped[i % 2])], wrapped[i % 2])

    with ThreadPoolExecutor(1) as pool:
        refitting = pool.submit(refit)
        try:
            for _ in range(8):
                for method in methods:
                    assert results(method) in allowed[method]
        finally:
            stop.set()
        refitting.result()


@pytest.mark.parametrize(
    "name",
    ["set_verbosity_error", "disable_progress_bar", "set_verbosity", "enable_progress_bar"],
)
def test_an_interruption_while_reports_are_switched_off_or_on_leaves_them_on(monkeypatch, name):
    def state():
        return transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()

    def stop(*args):
        monkeypatch.undo()
        raise KeyboardInterrupt

    before = state()
    monkeypatch.setattr(transformers_logging, name, stop)
    with pytest.raises(KeyboardInterrupt), quiet():
        pass
    with quiet():
        assert state() == (logging.ERROR, False)
    assert state() == before
