import pickle

import numpy as np
import pytest
import torch
from factorial import half_slow
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer

from skgliclass.engine.engine import Engine
from skgliclass.loading.loader import load_model
from skgliclass.training.data import LabelledRows, choose_labels, make_training_set
from skgliclass.training.loop import (
    NonFiniteLossError,
    Run,
    TrainingOptions,
    Validation,
    train,
)

LABELS = ["travel", "sport", "music"]
WORDS = [["world", "day", "see"], ["fox", "dog", "jumps"], ["café", "degrees", "today"]]

LEARNS = {"max_epochs": 14, "learning_rate": 1e-2, "head_learning_rate": 1e-2}

NEEDS_PEFT = pytest.mark.needs("peft")


def toy(n=36, seed=0):
    """Texts whose words tell their label."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % 3
    texts = [" ".join(rng.choice(WORDS[k], size=3)) + f" {rng.integers(9)}" for k in classes]
    return texts, np.eye(3, dtype=np.float32)[classes]


@pytest.fixture(scope="module", params=["uni-encoder", "bi-encoder", "two encoders"])
def engine(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    if request.param == "uni-encoder":
        encoder_checkpoint(folder, n_layers=1)
    elif request.param == "bi-encoder":
        sentence_transformer(folder, n_layers=1)
    else:
        fields = {"architecture_type": "bi-encoder", "pooling_strategy": "avg"}
        reference_checkpoint(folder, n_layers=1, **fields)
    return Engine(load_model(str(folder)))


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bi")
    return Engine(load_model(str(sentence_transformer(folder, n_layers=1))))


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    return Engine(load_model(str(encoder_checkpoint(folder, n_layers=1))))


def options(**changes):
    values = {
        "multi_label": False,
        "max_epochs": 12,
        "batch_size": 12,
        "learning_rate": 3e-3,
        "head_learning_rate": 3e-3,
        "precision": "float32",
    }
    return TrainingOptions(**{**values, **changes})


def run(engine, *, n=36, matrix=None, weights=None, validate=None, callbacks=None, **changes):
    texts, targets = toy(n)
    rows = LabelledRows.shared(targets if matrix is None else matrix)
    data = make_training_set(engine, texts, LABELS, rows, weights=weights)
    return train(engine, data, options(**changes), validate=validate, **(callbacks or {}))


def logits_with(engine, weights, texts):
    return Engine(weights.apply(engine.loaded)).logits(texts, LABELS)


@half_slow(name=["uni", "bi"], multi_label=[False, True])
def test_a_separable_problem_is_learnt(name, request, multi_label):
    engine = request.getfixturevalue(name)
    # Random weights have to learn the label texts too, which takes long in an order that changes.
    result = run(engine, multi_label=multi_label, shuffle_labels=False, **LEARNS)
    assert result.loss_curve[-1] < 0.1 * result.loss_curve[0]
    texts, targets = toy(30, seed=1)
    scores = logits_with(engine, result.weights, texts)
    assert (scores.argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.9


def test_results_repeat_exactly_and_depend_on_the_seed(engine):
    first, again, other = (run(engine, max_epochs=2, seed=seed) for seed in (1, 1, 2))
    assert first.loss_curve == again.loss_curve
    assert first.loss_curve != other.loss_curve
    for name, value in first.weights.replaced.items():
        assert torch.equal(value, again.weights.replaced[name]), name


def test_surroundings_are_left_alone(engine):
    before = {name: value.clone() for name, value in engine.loaded.network.state_dict().items()}
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(engine, max_epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    for name, value in engine.loaded.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not engine.loaded.network.training


def gradients(engine, max_batch_tokens, multi_label):
    texts, targets = toy(24)
    data = make_training_set(engine, texts, LABELS, LabelledRows.shared(targets))
    training = Run(
        engine,
        data,
        options(multi_label=multi_label, max_batch_tokens=max_batch_tokens, shuffle_labels=False),
    )
    for module in training.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for module in training.trainable.encoders():
        module.eval()  # some backbones hold attention's dropout as a number, not a module
    training.trainable.train = lambda: None
    training.optimizer.step = training.scheduler.step = lambda: None
    training.step(np.arange(24))
    return [p.grad for p in training.trainable.parameters() if p.grad is not None]


@pytest.mark.parametrize("multi_label", [False, True])
def test_micro_batches_give_the_gradient_of_the_batch(engine, multi_label):
    whole = gradients(engine, 100_000, multi_label)
    divided = gradients(engine, 20, multi_label)
    assert len(whole) == len(divided)
    for a, b in zip(whole, divided, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_examples_of_weight_zero_are_not_seen(engine):
    _, targets = toy(36)
    weights = np.ones(36, dtype=np.float32)
    weights[::2] = 0
    wrong = targets.copy()
    wrong[::2] = np.roll(wrong[::2], 1, axis=1)
    changes = {"max_epochs": 1, "batch_size": 36, "shuffle_labels": False}
    first = run(engine, weights=weights, **changes)
    second = run(engine, weights=weights, matrix=wrong, **changes)
    assert first.loss_curve == pytest.approx(second.loss_curve, rel=1e-5)


def test_heads_alone_leave_the_backbone_as_it_is(engine):
    result = run(engine, trainable="head", max_epochs=3)
    assert result.weights.replaced
    backbones = ("model.encoder_model.", "model.label_encoder.")
    assert not any(name.startswith(backbones) for name in result.weights.replaced)
    assert result.loss_curve[-1] < result.loss_curve[0]


@NEEDS_PEFT
def test_low_rank_updates_are_small_and_equal_the_trained_model(engine):
    seen = {}

    def remember(progress):
        if progress.epoch == 3:
            seen["logits"] = progress.engine.logits(toy(9)[0], LABELS)

    result = run(
        engine, trainable="lora", lora_rank=2, max_epochs=3, callbacks={"on_epoch": remember}
    )
    assert result.weights.low_rank
    assert not any("encoder_model" in name for name in result.weights.replaced)
    scores = logits_with(engine, result.weights, toy(9)[0])
    np.testing.assert_allclose(scores, seen["logits"], rtol=1e-4, atol=1e-4)
    assert np.abs(scores - engine.logits(toy(9)[0], LABELS)).max() > 1e-3


def test_low_rank_without_peft_names_the_extra(uni, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match=r'pip install peft .*"\.\[lora\]"'):
        run(uni, trainable="lora", max_epochs=1)


@pytest.mark.parametrize("trainable", ["all", "head", pytest.param("lora", marks=NEEDS_PEFT)])
def test_weights_survive_a_pickle(engine, trainable):
    weights = run(engine, trainable=trainable, max_epochs=1).weights
    again = pickle.loads(pickle.dumps(weights))
    texts = toy(6)[0]
    np.testing.assert_array_equal(
        logits_with(engine, again, texts), logits_with(engine, weights, texts)
    )


def test_the_best_epoch_wins_and_the_pretrained_weights_may(uni):
    scores = iter([0.9, 0.1, 0.2, 0.3])
    result = run(uni, max_epochs=3, validate=lambda _: Validation(next(scores), 1.0))
    assert result.best_iter == 0
    assert result.validation_scores == [0.9, 0.1, 0.2, 0.3]
    texts = toy(6)[0]
    np.testing.assert_allclose(
        logits_with(uni, result.weights, texts), uni.logits(texts, LABELS), atol=1e-6
    )

    scores = iter([0.1, 0.5, 0.2, 0.3])
    seen = {}

    def remember(progress):
        seen[progress.epoch] = progress.engine.logits(texts, LABELS)

    result = run(
        uni,
        max_epochs=3,
        validate=lambda _: Validation(next(scores), 1.0),
        callbacks={"on_epoch": remember},
    )
    assert result.best_iter == 1
    np.testing.assert_allclose(logits_with(uni, result.weights, texts), seen[1], atol=1e-6)


def test_the_loss_breaks_ties(uni):
    losses = iter([1.0, 0.8, 0.9])
    result = run(uni, max_epochs=2, validate=lambda _: Validation(0.5, next(losses)))
    assert result.best_iter == 1


def test_early_stopping_waits_for_a_better_score(uni):
    scores = iter([0.1, 0.5, 0.5, 0.5, 0.5])
    result = run(
        uni, max_epochs=9, n_iter_no_change=2, validate=lambda _: Validation(next(scores), 1.0)
    )
    assert result.n_iter == 3


def test_interrupting_keeps_the_best_weights(uni):
    steps = []

    def interrupt(loss):
        steps.append(loss)
        if len(steps) == 5:
            raise KeyboardInterrupt

    scores = iter([0.1, 0.9])
    result = run(
        uni, validate=lambda _: Validation(next(scores), 1.0), callbacks={"on_step": interrupt}
    )
    assert result.interrupted
    assert result.n_iter == 1
    assert result.best_iter == 1


def test_a_loss_that_is_no_number_stops_with_advice(uni):
    with pytest.raises(NonFiniteLossError, match=r"Lower\s+learning_rate"):
        run(uni, learning_rate=1e30, head_learning_rate=1e30, max_grad_norm=1e30)


def test_other_errors_are_not_swallowed(uni):
    def fail(_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run(uni, callbacks={"on_step": fail})


@pytest.mark.parametrize("name", ["uni", pytest.param("bi", marks=pytest.mark.slow)])
def test_every_text_may_have_labels_of_its_own(name, request):
    engine = request.getfixturevalue(name)
    texts, targets = toy(24)
    labels, values = [], []
    for i, row in enumerate(targets):
        true = int(row.argmax())
        other = (true + 1 + i % 2) % 3
        labels.append([true, other] if i % 3 else [other, true, 3])
        values.append([1.0, 0.0] if i % 3 else [0.0, 1.0, 0.0])
    rows = LabelledRows.ragged(labels, values)
    data = make_training_set(engine, texts, [*LABELS, "politics"], rows)
    for multi_label in (True, False):
        result = train(
            engine, data, options(multi_label=multi_label, shuffle_labels=False, **LEARNS)
        )
        assert result.loss_curve[-1] < 0.5 * result.loss_curve[0]


@pytest.mark.parametrize("kind", ["uni", "bi"])
def test_what_is_judged_are_the_weights_of_the_epoch(request, kind):
    """Also where labels are encoded by themselves, whose vectors are kept otherwise."""
    engine = request.getfixturevalue(kind)
    texts, targets = toy(12)
    judged, told, snapshots = [], [], []

    def validate(now):
        judged.append(now.logits(texts, LABELS))
        return Validation(0.0, 0.0)

    def on_epoch(progress):
        told.append(progress.engine.logits(texts, LABELS))
        snapshots.append(progress.weights())

    data = make_training_set(engine, texts, LABELS, LabelledRows.shared(targets))
    how = options(max_epochs=2, learning_rate=1e-3, head_learning_rate=1e-3)
    train(engine, data, how, validate=validate, on_epoch=on_epoch)
    for weights, *found in zip(snapshots, judged, told, strict=True):
        expected = logits_with(engine, weights, texts)
        for logits in found:
            np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_labels_that_do_not_fit_are_drawn_with_the_true_ones():
    rng = np.random.default_rng(0)
    targets = np.zeros(50, dtype=np.float32)
    targets[[7, 33]] = 1
    lengths = np.full(50, 5)
    seen = set()
    for _ in range(50):
        kept = choose_labels(targets, lengths, 60, rng, True)
        assert len(kept) == 12
        assert {7, 33} <= set(kept.tolist())
        seen |= set(kept.tolist())
    assert seen == set(range(50))


def test_training_with_more_labels_than_fit(tmp_path):
    encoder_checkpoint(tmp_path)
    engine = Engine(load_model(str(tmp_path)), max_length=64)
    labels = [*LABELS, *(f"label number {i}" for i in range(40))]
    texts, targets = toy(12)
    matrix = np.concatenate([targets, np.zeros((12, 40), dtype=np.float32)], axis=1)
    data = make_training_set(engine, texts, labels, LabelledRows.shared(matrix))
    result = train(engine, data, options(max_epochs=2))
    assert np.isfinite(result.loss_curve).all()


def test_many_labels_of_a_bi_encoder_are_compared_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr("skgliclass.training.apart.MAX_LABELS_A_STEP", 8)
    engine = Engine(load_model(str(sentence_transformer(tmp_path))))
    labels = [*LABELS, *(f"label number {i}" for i in range(40))]
    texts, targets = toy(12)
    matrix = np.concatenate([targets, np.zeros((12, 40), dtype=np.float32)], axis=1)
    data = make_training_set(engine, texts, labels, LabelledRows.shared(matrix))
    training = Run(engine, data, options(max_epochs=1))
    targets = torch.cat([part.targets for part in training.steps.prepare(np.arange(12))])
    assert targets.shape == (12, 8)
    assert (targets.sum(dim=1) == 1).all()


def test_label_order_changes_from_example_to_example(uni):
    texts, targets = toy(12)
    data = make_training_set(uni, texts, LABELS, LabelledRows.shared(targets))
    training = Run(uni, data, options())
    positions = np.empty(12, dtype=int)
    for part in training.steps.prepare(np.arange(12)):
        positions[part.rows] = part.targets.argmax(dim=1)
    assert len(set(positions[::3].tolist())) > 1


@pytest.mark.parametrize("name", ["uni", "bi"])
def test_gradient_checkpointing_changes_no_result(name, request):
    engine = request.getfixturevalue(name)
    plain, checkpointed = (
        run(engine, max_epochs=2, gradient_checkpointing=wanted) for wanted in (False, True)
    )
    np.testing.assert_allclose(checkpointed.loss_curve, plain.loss_curve, rtol=1e-4)


@pytest.mark.parametrize("name", ["uni", pytest.param("bi", marks=pytest.mark.slow)])
def test_bfloat16_trains_too(name, request):
    engine = request.getfixturevalue(name)
    result = run(engine, shuffle_labels=False, precision="bfloat16", **LEARNS)
    assert result.loss_curve[-1] < 0.2 * result.loss_curve[0]
