"""What fit promises: what it leaves behind, what it leaves alone, and what can be stored."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from inspect import signature
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from factorial import half_slow
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer
from toy import CONTAINERS, LABELS, toy, toy_indicator

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    GLiClassTransformer,
    TruncationWarning,
)
from skgliclass.estimators import callbacks as progress
from skgliclass.estimators import tuning
from skgliclass.loading.loader import load_model
from skgliclass.training import loop
from skgliclass.training.tuned_weights import TunedWeights

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TEXTS, Y = toy(18)
MANY_TEXTS, MATRIX = toy_indicator(18)
QUICK = {
    "trainable": "all",
    "max_epochs": 2,
    "learning_rate": 0.01,
    "batch_size": 6,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(
        folder, n_layers=1, prompt_first=True, scorer_type="mlp", pooling_strategy="avg"
    )
    return str(folder)


def make(cls, model, **parameters):
    return cls(model, LABELS, **{**QUICK, **parameters})


def data(cls):
    return (TEXTS, Y) if cls is GLiClassClassifier else (MANY_TEXTS, MATRIX)


def fitted(cls, model, **parameters):
    return make(cls, model, **parameters).fit(*data(cls))


@cache
def shared_fit(cls, model, **parameters):
    """Fit once for all tests that only look at the estimator or copy it."""
    return fitted(cls, model, **parameters)


# The signatures.


def test_both_classifiers_have_the_same_parameters_and_defaults():
    one, many = (dict(signature(cls).parameters) for cls in BOTH)
    # What only one kind has: when a class is chosen.
    one.pop("min_probability"), one.pop("other"), many.pop("threshold")
    assert list(one.values()) == list(many.values())


@pytest.mark.parametrize("cls", [*BOTH, GLiClassTransformer])
def test_every_parameter_is_described_with_its_default(cls):
    for name, parameter in signature(cls).parameters.items():
        default = parameter.default
        shown = f'"{default}"' if isinstance(default, str) else repr(default)
        assert f"\n    {name} : " in cls.__doc__
        line = cls.__doc__.split(f"\n    {name} : ")[1].split("\n")[0]
        assert line.endswith(f"default={shown}")


@pytest.mark.parametrize("cls", [*BOTH, GLiClassTransformer])
def test_html_shows_parameters(cls):
    html = cls(labels=LABELS)._repr_html_()
    assert cls.__name__ in html
    assert "task_description" in html


# Storing.


@half_slow(cls=BOTH, store=["pickle", "joblib"], trainable=["all", "head", "lora"])
def test_stored_estimators_predict_the_same(model, cls, store, trainable, tmp_path):
    clf = shared_fit(cls, model, trainable=trainable, lora_rank=2)
    if store == "pickle":
        again = pickle.loads(pickle.dumps(clf))
    else:
        joblib.dump(clf, tmp_path / "clf.joblib")
        again = joblib.load(tmp_path / "clf.joblib")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert again.loss_curve_ == clf.loss_curve_


@pytest.mark.parametrize("cls", BOTH)
def test_what_was_not_trained_is_not_stored(model, cls):
    size = {
        trainable: len(pickle.dumps(fitted(cls, model, trainable=trainable, lora_rank=1)))
        for trainable in ("all", "lora", "head")
    }
    assert size["head"] < size["lora"] < size["all"] / 2
    assert len(pickle.dumps(make(cls, model))) < 3000
    assert len(pickle.dumps(fitted(cls, model, max_epochs=0))) < 4000


def test_pretrained_weights_that_won_are_not_stored(model):
    clf = make(GLiClassClassifier, model, early_stopping=True, learning_rate=1e-9, tol=0.0)
    zero_shot = clf.predict(TEXTS)
    clf.fit(TEXTS, Y, X_val=TEXTS, y_val=zero_shot)
    np.testing.assert_array_equal(clf.predict(TEXTS), zero_shot)
    assert clf.validation_scores_[0] == 1.0
    worse = make(GLiClassClassifier, model, early_stopping=True, learning_rate=0.1)
    worse.fit(TEXTS, np.roll(Y, 1), X_val=TEXTS, y_val=zero_shot)
    np.testing.assert_array_equal(worse.predict(TEXTS), zero_shot)
    assert len(pickle.dumps(worse)) < 4000


def test_a_file_in_the_place_of_a_folder_is_named(model, tmp_path):
    file = tmp_path / "clf.json"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match=r"clf.json' is a file, .*Give the name of a folder"):
        make(GLiClassClassifier, model).save_pretrained(file)
    assert file.read_text() == "mine"


def test_weights_are_stored_for_any_device(model):
    """Tensors rest on the CPU and the device is looked up again where the estimator is loaded."""
    clf = fitted(GLiClassClassifier, model)
    assert {t.device.type for t in clf._fit_state.weights.replaced.values()} == {"cpu"}
    again = pickle.loads(pickle.dumps(clf)).set_params(device="meta-less")
    with pytest.raises((ValueError, RuntimeError)):
        again.predict(TEXTS)
    assert again.set_params(device="cpu").predict(TEXTS).tolist() == clf.predict(TEXTS).tolist()


@pytest.mark.parametrize("cls", BOTH)
def test_a_clone_is_untrained(model, cls):
    clf = shared_fit(cls, model)
    copy = clone(clf)
    assert not hasattr(copy, "n_iter_")
    zero_shot = make(cls, model).predict_proba(TEXTS)
    np.testing.assert_array_equal(copy.predict_proba(TEXTS), zero_shot)
    assert np.abs(clf.predict_proba(TEXTS) - zero_shot).max() > 1e-3


# What is left alone.


@pytest.mark.parametrize("trainable", ["all", "head", "lora"])
def test_fits_share_pristine_weights_and_leave_them_alone(model, trainable):
    pristine = load_model(model).network
    before = {name: value.clone() for name, value in pristine.state_dict().items()}
    first, second = (
        fitted(GLiClassClassifier, model, trainable=trainable, lora_rank=2) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_proba(TEXTS), second.predict_proba(TEXTS))
    assert load_model(model).network is pristine
    for name, value in pristine.state_dict().items():
        assert torch.equal(value, before[name]), name
    if trainable == "head":
        networks = [clf._engine(clf._fit_state.weights).loaded.network for clf in (first, second)]
        frozen = [
            {p.data_ptr() for n, p in network.named_parameters() if not network.is_head(n)}
            for network in networks
        ]
        assert frozen[0] == frozen[1]


@pytest.mark.parametrize("cls", BOTH)
def test_global_random_states_are_left_alone(model, cls):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fitted(cls, model, early_stopping=True)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("cls", BOTH)
def test_the_callers_data_is_left_alone(model, cls):
    X, y = data(cls)
    frame, target, weights = pd.DataFrame({"text": X}), y.copy(), np.ones(len(X))
    copies = frame.copy(), target.copy(), weights.copy()
    make(cls, model).fit(frame, target, sample_weight=weights)
    pd.testing.assert_frame_equal(frame, copies[0])
    np.testing.assert_array_equal(target, copies[1])
    np.testing.assert_array_equal(weights, copies[2])


def test_seeded_fits_repeat_exactly_and_seeds_differ(model):
    first, again, other = (
        fitted(GLiClassClassifier, model, random_state=seed).predict_proba(TEXTS)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6


@pytest.mark.parametrize("cls", BOTH)
def test_two_threads_predict_at_once(uni, cls):
    clf = fitted(cls, uni)
    parts = [TEXTS[i::4] for i in range(4)] * 3
    expected = [clone_of_state(clf).predict_proba(part) for part in parts]
    shared = clone_of_state(clf)
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(shared.predict_proba, parts), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-5)


def clone_of_state(clf):
    return pickle.loads(pickle.dumps(clf))


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture_type": "uni-encoder", "prompt_first": True},
        {"architecture_type": "bi-encoder", "pooling_strategy": "avg"},
        {"architecture_type": "bi-encoder-fused", "prompt_first": True},
    ],
)
@pytest.mark.parametrize("task_description", [None, "What is it about? "])
def test_texts_that_training_cuts_are_counted_once(tmp_path, fields, task_description):
    reference_checkpoint(tmp_path, n_layers=1, **fields)
    clf = make(
        GLiClassClassifier,
        str(tmp_path),
        max_length=48,
        task_description=task_description,
        batch_size=40,
    )
    texts = ["fox " * n for n in range(20, 60)]
    with pytest.warns(TruncationWarning) as predicted:
        clf.predict(texts)
    (count,) = re.findall(r"^(\d+) of 40 texts did not fit", str(predicted[0].message))
    assert 0 < int(count) < 40
    with pytest.warns(TruncationWarning) as fitted:
        clf.fit(texts, [*Y, *Y, *Y[:4]])
    message = rf"^{count} of 40 texts to learn from did not fit .*max_length=48"
    assert [bool(re.search(message, str(w.message))) for w in fitted] == [True]


# When something goes wrong.


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize(
    ("parameters", "arguments", "error"),
    [
        ({"learning_rate": 1e30, "max_grad_norm": 1e30}, {}, FloatingPointError),
        ({"focal_gamma": -1.0}, {}, ValueError),
        ({"class_weight": {"politics": 2.0}}, {}, ValueError),
        ({}, {"sample_weight": [1.0]}, ValueError),
        ({}, {"X_val": TEXTS}, ValueError),
        ({"model": "/no/such/folder"}, {}, OSError),
    ],
)
def test_a_failing_fit_leaves_the_estimator_as_it_was(model, cls, parameters, arguments, error):
    clf = clone_of_state(shared_fit(cls, model))
    before, expected = dict(vars(clf)), clf.predict_proba(TEXTS)
    given = {name: getattr(clf, name) for name in parameters}
    clf.set_params(**parameters)
    X, y = data(cls)
    with pytest.raises(error):
        clf.fit(X, y, **arguments)
    clf.set_params(**given)
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), expected)


@pytest.mark.parametrize(
    ("cls", "X_val", "y_val", "message"),
    [
        (GLiClassClassifier, TEXTS, [*Y[:-1], "cooking"], r"^y_val\[17\] has the unknown class"),
        (GLiClassClassifier, TEXTS, [None, *Y[1:]], r"^y_val\[0\] is missing"),
        (GLiClassClassifier, [None], Y[:1], r"^X_val\[0\] is missing"),
        (GLiClassMultiLabelClassifier, MANY_TEXTS, MATRIX * 2, r"^y_val\[0\] has 2.0"),
        (GLiClassMultiLabelClassifier, ["a"], [["cooking"]], r"^y_val\[0\] has the unknown class"),
        (GLiClassMultiLabelClassifier, MANY_TEXTS, MATRIX[:, :2], "^y_val has 2 columns"),
    ],
)
def test_errors_of_validation_data_name_them(model, cls, X_val, y_val, message):
    with pytest.raises(ValueError, match=message):
        make(cls, model).fit(*data(cls), X_val=X_val, y_val=y_val)


def test_a_failing_first_fit_leaves_nothing(model):
    clf = GLiClassClassifier(model)
    with pytest.raises(ValueError, match="missing"):
        clf.fit(TEXTS, [None, *Y[1:]])
    assert not [name for name in vars(clf) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)


def interrupt_after(monkeypatch, n_steps):
    on_step = progress.FitCallbacks.on_step
    steps = []

    def interrupted(self, loss):
        on_step(self, loss)
        steps.append(loss)
        if len(steps) == n_steps:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.FitCallbacks, "on_step", interrupted)


@pytest.mark.parametrize("cls", BOTH)
def test_ctrl_c_leaves_a_usable_estimator_and_is_raised(model, cls, monkeypatch):
    interrupt_after(monkeypatch, 5)
    clf = make(cls, model, max_epochs=50)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted after 1 epoch.* can be used"):
        clf.fit(*data(cls))
    assert clf.n_iter_ == 1
    zero_shot = make(cls, model).predict_proba(TEXTS)
    assert np.abs(clf.predict_proba(TEXTS) - zero_shot).max() > 1e-4


def test_ctrl_c_keeps_the_best_weights(model, monkeypatch):
    interrupt_after(monkeypatch, 4)
    X_val, y_val = toy(30, seed=1)
    clf = make(GLiClassClassifier, model, early_stopping=True)
    with pytest.raises(KeyboardInterrupt, match="best weights so far"):
        clf.fit(TEXTS, Y, X_val=X_val, y_val=y_val)
    assert clf.score(X_val, y_val) == pytest.approx(max(clf.validation_scores_))


def test_ctrl_c_within_the_first_epoch(model, monkeypatch):
    """Without held-out texts the weights so far are kept; with them those before."""
    X_val, y_val = toy(6, seed=1)
    zero_shot = make(GLiClassClassifier, model).predict_proba(TEXTS)
    for held_out, moves in (({}, True), ({"X_val": X_val, "y_val": y_val}, False)):
        with monkeypatch.context() as patch:
            interrupt_after(patch, 1)
            clf = make(GLiClassClassifier, model)
            with pytest.raises(KeyboardInterrupt, match="after 0 epoch"):
                clf.fit(TEXTS, Y, **held_out)
        assert clf.n_iter_ == 0
        difference = np.abs(clf.predict_proba(TEXTS) - zero_shot).max()
        assert (difference > 1e-6) == moves, held_out


def test_ctrl_c_before_training_changes_nothing(model, monkeypatch):
    clf = fitted(GLiClassClassifier, model)
    before, attributes = clf.predict_proba(TEXTS), dict(vars(clf))
    monkeypatch.setattr(loop, "Run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(TEXTS, Y)
    assert vars(clf) == attributes
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("n_times", [1, 2])
def test_ctrl_c_while_what_was_learnt_is_tuned(model, monkeypatch, n_times):
    """The first time what is left is finished; the second time it is left."""
    calls, tune = [], tuning.best_temperature

    def interrupt(*args, **options):
        calls.append(args)
        if len(calls) <= n_times:
            raise KeyboardInterrupt
        return tune(*args, **options)

    monkeypatch.setattr(tuning, "best_temperature", interrupt)
    clf = make(GLiClassClassifier, model, calibrate=True)
    noisy = np.where(np.arange(18) % 5 == 0, np.roll(Y, 1), Y)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(TEXTS, Y, X_val=TEXTS, y_val=noisy)
    assert hasattr(clf, "n_iter_") == (n_times == 1)


def test_ctrl_c_in_partial_fit(model, monkeypatch):
    clf = fitted(GLiClassClassifier, model)
    before = clf.predict_proba(TEXTS)
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt, match="can be used"):
        clf.partial_fit(TEXTS, Y)
    assert np.abs(clf.predict_proba(TEXTS) - before).max() > 1e-6


@pytest.mark.parametrize(
    "judge",
    [
        lambda clf: cross_val_score(clf, TEXTS, Y, cv=2),
        lambda clf: GridSearchCV(clf, {"learning_rate": [1e-3, 1e-4]}, cv=2).fit(TEXTS, Y),
    ],
    ids=["cross_val_score", "grid search"],
)
def test_one_interruption_ends_a_cross_validation(model, monkeypatch, judge):
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt, match="can be used"):
        judge(make(GLiClassClassifier, model))


_CROSS_VALIDATION = """
import sys
from sklearn.model_selection import cross_val_score
from skgliclass import GLiClassClassifier

if __name__ == "__main__":
    model, n_jobs = sys.argv[1], int(sys.argv[2])
    clf = GLiClassClassifier(model, trainable="all", max_epochs=100000, random_state=0, verbose=1)
    texts = ["fox dog jumps", "world day see"] * 8
    print(cross_val_score(clf, texts, ["sport", "travel"] * 8, cv=4, n_jobs=n_jobs))
"""


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["process", "group"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_signal_ends_a_cross_validation_without_scores(uni, tmp_path, n_jobs, whom):
    script = tmp_path / "cross_validation.py"
    script.write_text(_CROSS_VALIDATION)
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, str(script), uni, str(n_jobs)],
            stdout=subprocess.PIPE,
            stderr=errors,
            # A terminal sends Ctrl-C to the group.
            start_new_session=True,
        )
        end = time.monotonic() + 120
        # The bars of all processes: every one of them is within a fit.
        while Path(errors.name).read_text().count("loss=") < n_jobs and time.monotonic() < end:
            assert process.poll() is None, Path(errors.name).read_text()
            time.sleep(0.05)
        (os.kill if whom == "process" else os.killpg)(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert output == b""
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in Path(errors.name).read_text()


# A training that diverges.


DIVERGING = {
    "trainable": "all",
    "max_epochs": 1,
    "batch_size": 64,
    "learning_rate": 1e25,
    "head_learning_rate": 1e25,
}


@pytest.mark.parametrize("rate", [1e10, pytest.param(1e38, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("cls", "method", "trainable"),
    [
        (GLiClassClassifier, "fit", "all"),
        (GLiClassClassifier, "fit", "lora"),
        (GLiClassClassifier, "partial_fit", "head"),
        (GLiClassMultiLabelClassifier, "fit", "head"),
        (GLiClassMultiLabelClassifier, "partial_fit", "all"),
    ],
)
def test_a_diverging_last_step_is_an_error(model, cls, rate, method, trainable):
    """The only step; what it did no later loss would tell."""
    clf = fitted(cls, model)
    before, state = clf.predict_proba(TEXTS), clf._fit_state
    rates = {"learning_rate": rate, "head_learning_rate": rate, "trainable": trainable}
    clf.set_params(**{**DIVERGING, **rates})
    with pytest.raises(FloatingPointError, match=r"Nothing was changed.*Lower learning_rate"):
        getattr(clf, method)(*data(cls))
    assert clf._fit_state is state
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)


def test_a_diverging_step_on_held_out_texts_is_an_error(model):
    clf = make(GLiClassClassifier, model, **DIVERGING)
    with pytest.raises(FloatingPointError, match="Nothing was changed"):
        clf.fit(TEXTS, Y, X_val=TEXTS, y_val=Y)
    assert clf._fit_state is None


def test_ctrl_c_after_a_diverging_step_keeps_what_was_before(model, monkeypatch):
    interrupt_after(monkeypatch, 1)
    clf = make(GLiClassClassifier, model, **DIVERGING)
    with pytest.raises(KeyboardInterrupt, match="nothing is kept"):
        clf.fit(TEXTS, Y)
    assert clf._fit_state is None


# Going on, and starting anew.


@half_slow(cls=BOTH, trainable=["all", "head", "lora"], way=["warm_start", "partial_fit"])
def test_going_on_keeps_what_was_learnt(model, cls, trainable, way):
    clf = fitted(cls, model, trainable=trainable, lora_rank=2, warm_start=True)
    learnt = clf.predict_proba(TEXTS)
    still = {"learning_rate": 1e-12, "head_learning_rate": 1e-12, "max_epochs": 1}
    clf.set_params(**still)
    (clf.fit if way == "warm_start" else clf.partial_fit)(*data(cls))
    np.testing.assert_allclose(clf.predict_proba(TEXTS), learnt, atol=1e-5)
    clf.set_params(warm_start=False).fit(*data(cls))
    zero_shot = make(cls, model).predict_proba(TEXTS)
    # Low-rank updates begin at zero, and the other weights where they were.
    np.testing.assert_allclose(clf.predict_proba(TEXTS), zero_shot, atol=1e-5)


def test_training_another_part_keeps_what_was_learnt(model):
    clf = fitted(GLiClassClassifier, model, warm_start=True)
    for trainable in ("lora", "head", "all", "lora"):
        learnt = clf.predict_proba(TEXTS)
        clf.set_params(trainable=trainable, learning_rate=1e-12, max_epochs=1).fit(TEXTS, Y)
        np.testing.assert_allclose(clf.predict_proba(TEXTS), learnt, atol=1e-5)
        clf.set_params(learning_rate=0.01).fit(TEXTS, Y)
        assert np.abs(clf.predict_proba(TEXTS) - learnt).max() > 1e-4


def test_low_rank_updates_add_up_without_growing():
    generator = torch.Generator().manual_seed(0)
    shape = {"tall": (6, 4), "wide": (4, 6)}
    total = {name: torch.zeros(size) for name, size in shape.items()}
    weights = TunedWeights()
    for _ in range(5):
        update = {
            name: (
                torch.randn(rows, 2, generator=generator),
                torch.randn(2, columns, generator=generator),
            )
            for name, (rows, columns) in shape.items()
        }
        weights = weights.then(TunedWeights({}, update))
        total = {name: total[name] + left @ right for name, (left, right) in update.items()}
    for name, (left, right) in weights.low_rank.items():
        torch.testing.assert_close(left @ right, total[name])
        assert left.shape[1] == 4


def test_new_labels_after_fitting_keep_tuned_weights(model):
    clf = fitted(GLiClassClassifier, model)
    learnt = clf.predict_proba(TEXTS)
    clf.set_params(labels=["sport", "cooking"])
    assert clf.classes_.tolist() == ["cooking", "sport"]
    untuned = GLiClassClassifier(model, ["sport", "cooking"])
    assert np.abs(clf.predict_proba(TEXTS) - untuned.predict_proba(TEXTS)).max() > 1e-3
    clf.set_params(labels=LABELS)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), learnt)


def test_new_labels_after_a_fit_without_labels(model):
    clf = GLiClassClassifier(model, **QUICK).fit(TEXTS, Y)
    assert clf.classes_.tolist() == LABELS
    clf.set_params(labels={"m": "music", "s": "sport"})
    assert set(clf.predict(TEXTS)) <= {"m", "s"}


@pytest.mark.parametrize("cls", BOTH)
def test_no_epochs_record_the_classes_and_train_nothing(model, cls):
    clf = fitted(cls, model, max_epochs=0)
    assert clf.n_iter_ == 0
    assert clf.loss_curve_ == []
    assert clf.best_loss_ is None
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), make(cls, model).predict_proba(TEXTS))


def test_no_epochs_do_not_make_up_heads(tmp_path):
    clf = make(GLiClassClassifier, str(encoder_checkpoint(tmp_path)), max_epochs=0).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="without trained"):
        clf.predict(TEXTS)


@pytest.mark.parametrize("cls", BOTH)
def test_fitted_attributes(model, cls):
    X, y = data(cls)
    clf = make(cls, model, early_stopping=True, max_epochs=3, n_iter_no_change=3).fit(X, y)
    assert 1 <= clf.n_iter_ <= 3
    assert len(clf.loss_curve_) == clf.n_iter_
    assert len(clf.validation_scores_) == clf.n_iter_ + 1
    assert clf.best_loss_ == min(clf.loss_curve_)
    assert clf.temperature_ == 1.0


# The forms of y.


@pytest.mark.parametrize(
    "form",
    [
        lambda m: m.astype(bool),
        lambda m: m.tolist(),
        sparse.csr_matrix,
        sparse.coo_array,
        lambda m: pd.DataFrame(m, columns=LABELS),
        lambda m: [[LABELS[j] for j in np.flatnonzero(row)] for row in m],
        lambda m: [{LABELS[j] for j in np.flatnonzero(row)} for row in m],
        lambda m: m.astype(float),
    ],
)
def test_every_form_of_many_labels_trains_the_same(model, form):
    expected = shared_fit(GLiClassMultiLabelClassifier, model, trainable="head")
    clf = make(GLiClassMultiLabelClassifier, model, trainable="head")
    clf.fit(MANY_TEXTS, form(MATRIX))
    assert clf.loss_curve_ == expected.loss_curve_
    assert clf.classes_.tolist() == LABELS


def test_soft_targets_are_learnt(model):
    texts = ["the world today"] * 12
    soft = np.tile([0.7, 0.2, 0.5], (12, 1))
    clf = make(GLiClassMultiLabelClassifier, model, max_epochs=40, trainable="head").fit(
        texts, soft
    )
    np.testing.assert_allclose(clf.predict_proba(texts[:1])[0], soft[0], atol=0.15)


@pytest.mark.parametrize("form", [list, pd.Series, lambda y: y.reshape(-1, 1), np.array])
def test_every_form_of_one_label_trains_the_same(model, form):
    expected = shared_fit(GLiClassClassifier, model, trainable="head").loss_curve_
    clf = make(GLiClassClassifier, model, trainable="head")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A column-vector y was passed")
        assert clf.fit(TEXTS, form(Y)).loss_curve_ == expected


@cache
def judged_fit(model):
    return make(GLiClassClassifier, model, trainable="head").fit(TEXTS, Y, X_val=TEXTS, y_val=Y)


@pytest.mark.parametrize("container", CONTAINERS)
def test_validation_texts_in_every_container(model, container):
    X = CONTAINERS[container](TEXTS)
    clf = make(GLiClassClassifier, model, trainable="head").fit(X, Y, X_val=X, y_val=Y)
    assert clf.validation_scores_ == judged_fit(model).validation_scores_


# scikit-learn's callbacks.


def test_scikit_learns_callbacks_see_every_epoch(model):
    pytest.importorskip("sklearn.callback")

    class Recorder:
        """Predicts with the estimator as it is after each epoch, and stops after two."""

        def __init__(self):
            self.seen = []

        def setup(self, estimator, context):
            self.seen.append("setup")

        def teardown(self, estimator, context):
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "epoch":
                self.seen.append(fitted_estimator.predict_proba(TEXTS))
                return len(self.seen) > 2
            return False

    recorder = Recorder()
    clf = make(GLiClassClassifier, model, max_epochs=5, trainable="lora", lora_rank=2)
    clf.set_callbacks(recorder).fit(TEXTS, Y)
    first, *epochs, last = recorder.seen
    assert (first, last) == ("setup", "teardown")
    assert clf.n_iter_ == len(epochs) == 2
    np.testing.assert_allclose(clf.predict_proba(TEXTS), epochs[1], atol=1e-5)
    assert np.abs(epochs[0] - epochs[1]).max() > 1e-4
    # What a callback sees when a fit goes on has what was learnt before, too.
    recorder.seen.clear()
    clf.set_params(learning_rate=1e-12).partial_fit(TEXTS, Y)
    np.testing.assert_allclose(recorder.seen[1], epochs[1], atol=1e-5)
