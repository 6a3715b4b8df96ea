"""The commands ``train`` and ``evaluate``, on tiny random models."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    label_ranking_average_precision_score,
)
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.datasets import Example, PromptExample, from_arrays, write_examples
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.estimators import callbacks
from skgliclass.estimators.rows import RowExamples
from skgliclass.estimators.scoring import ScoringPlan
from skgliclass.estimators.state import NO_LABELS
from skgliclass.loading.loader import load_model
from skgliclass.prompts.examples import ExampleEncoder

LABELS = ["travel", "sport", "music"]
WORDS = {"travel": "world day see", "sport": "fox dog jumps", "music": "café degrees today"}
FASTER = ["--learning-rate", "1e-2", "--head-learning-rate", "1e-2", "--batch-size", "12"]
FAST = ["--learning-rate", "3e-3", "--head-learning-rate", "3e-3", "--batch-size", "12"]


def toy(n=36, seed=0):
    """Texts whose words tell their label."""
    rng = np.random.default_rng(seed)
    y = [LABELS[i % 3] for i in range(n)]
    texts = [
        " ".join(rng.choice(WORDS[label].split(), size=3)) + f" {rng.integers(9)}" for label in y
    ]
    return texts, y


def toy_sets(n=30, seed=0):
    """The same with any number of labels."""
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, 3)) < 0.5).astype(int)
    texts = [
        " ".join(["the", *(WORDS[LABELS[j]] for j in np.flatnonzero(row))]) + f" {rng.integers(9)}"
        for row in Y
    ]
    return texts, Y


@pytest.mark.filterwarnings("default:.*texts to learn from")
def test_texts_that_training_cuts_are_counted(tmp_path, capsys):
    rows = [replace(row, text="fox " * (30 * i)) for i, row in enumerate(ragged_rows(4)) if i]
    write_examples(tmp_path / "data.json", rows)
    model = str(encoder_checkpoint(tmp_path / "model"))
    arguments = ["--model", model, "--max-length", "48", "--trainable", "head"]
    output = str(tmp_path / "tuned")
    assert main(["train", str(tmp_path / "data.json"), *arguments, "--output", output]) == 0
    assert "2 of 3 texts to learn from did not fit" in capsys.readouterr().err


def ragged_rows(n=36, soft=False):
    """Every text with two or three labels to choose from, in an order of its own."""
    rows = []
    for i, (text, label) in enumerate(zip(*toy(n), strict=True)):
        choice = [name for name in LABELS if name != label][: 1 + i % 2]
        choice.insert(i % 3, label)
        true = {label: 0.9, choice[-1]: 0.1} if soft and choice[-1] != label else [label]
        rows.append(Example(text, choice, true))
    return rows


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi"), n_layers=1))


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    return str(encoder_checkpoint(tmp_path_factory.mktemp("uni"), n_layers=1))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.json"
    write_examples(path, from_arrays(*toy()))
    return path


def training_set(engine, rows, task_description=""):
    """Give what a classifier without classes learns from rows."""
    plan = ScoringPlan(NO_LABELS, True, ScoringOptions(task_description=task_description))
    examples = RowExamples(rows)
    shown = examples.prompt_examples(engine, plan, None, exclude_self=True)
    return examples.training_set(engine, plan, shown, None)


def train(data, model, output, *arguments):
    options = ["--model", model, "--output", output, "--trainable", "all", *arguments]
    return main(["train", *map(str, [data, *options])])


def evaluate(capsys, *arguments):
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# Training.


@pytest.mark.parametrize(("model", "chosen"), [("bi", "labels"), ("uni", "all")])
def test_by_default_rows_and_model_decide_what_is_trained(
    model, chosen, request, tmp_path, data, capsys
):
    model, output = request.getfixturevalue(model), str(tmp_path / "tuned")
    options = ["--model", model, "--output", output, "--max-epochs", "1"]
    assert main(["train", str(data), *options]) == 0
    assert f"changed           {chosen}\n" in capsys.readouterr().out
    assert (tmp_path / "tuned" / "learnt_labels.safetensors").exists() == (chosen == "labels")
    assert GLiClassClassifier.from_pretrained(output).trainable == "auto"


@pytest.mark.parametrize("model", ["bi", "uni"])
def test_training_is_what_fit_does(model, request, tmp_path, data, capsys):
    model = request.getfixturevalue(model)
    output = tmp_path / "tuned"
    assert train(data, model, output, "--max-epochs", 2, "--seed", 3, *FAST) == 0
    clf = GLiClassClassifier(
        model,
        labels=LABELS,
        trainable="all",
        max_epochs=2,
        batch_size=12,
        learning_rate=3e-3,
        head_learning_rate=3e-3,
        random_state=3,
    )
    texts, y = toy()
    clf.fit(texts, y)
    tuned = GLiClassClassifier.from_pretrained(output)
    assert tuned.classes_.tolist() == clf.classes_.tolist()
    assert tuned.get_params()["learning_rate"] == 3e-3
    np.testing.assert_allclose(tuned.predict_proba(texts), clf.predict_proba(texts), atol=1e-5)
    assert f"training loss     {clf.loss_curve_[-1]:.4f}" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:calibrate=True")
def test_every_parameter_of_training_is_an_option(bi, tmp_path, data, capsys):
    given = {
        "trainable": "lora",
        "max_epochs": 0,
        "batch_size": 5,
        "learning_rate": 2e-4,
        "head_learning_rate": 3e-3,
        "weight_decay": 0.2,
        "warmup_fraction": 0.5,
        "max_grad_norm": 2.5,
        "focal_gamma": 1.5,
        "focal_alpha": 0.25,
        "label_smoothing": 0.05,
        "lora_rank": 3,
        "n_iter_no_change": 2,
        "tol": 0.01,
        "calibrate": True,
        "gradient_checkpointing": True,
    }
    options = ["--multi-label", "--validation", data]
    for name, value in given.items():
        options += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    assert train(data, bi, tmp_path / "tuned", *options) == 0
    saved = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "tuned").get_params()
    assert {name: saved[name] for name in given} == given
    assert saved["early_stopping"] is True
    for option in (["--trainable", "some"], ["--batch-size", "2.5"], ["--max-epochs", "many"]):
        with pytest.raises(SystemExit):
            train(data, bi, tmp_path / "other", *option)
        assert f"argument {option[0]}: invalid" in capsys.readouterr().err


def test_training_with_many_labels_is_what_fit_does(bi, tmp_path):
    texts, Y = toy_sets()
    Y = np.where(Y == 1, 0.9, 0.0)
    write_examples(tmp_path / "d.jsonl", from_arrays(texts, Y, labels=LABELS, multi_label=True))
    arguments = ["--max-epochs", 2, "--focal-gamma", 2, "--focal-alpha", 0.4, *FAST]
    assert train(tmp_path / "d.jsonl", bi, tmp_path / "tuned", *arguments) == 0
    clf = GLiClassMultiLabelClassifier(
        bi,
        labels=sorted(LABELS),
        trainable="all",
        max_epochs=2,
        batch_size=12,
        learning_rate=3e-3,
        head_learning_rate=3e-3,
        focal_gamma=2,
        focal_alpha=0.4,
        random_state=0,
    )
    clf.fit(texts, pd.DataFrame(Y, columns=LABELS)[sorted(LABELS)])
    tuned = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "tuned")
    np.testing.assert_allclose(tuned.predict_proba(texts), clf.predict_proba(texts), atol=1e-5)


@pytest.mark.parametrize("soft", [pytest.param(False, marks=pytest.mark.slow), True])
def test_rows_with_label_sets_of_their_own_are_learnt(bi, tmp_path, capsys, soft):
    path = tmp_path / "data.jsonl.gz"
    write_examples(path, ragged_rows(soft=soft))
    arguments = ["--single-label"] if soft else []
    before = evaluate(capsys, path, "--model", bi, *arguments)
    assert train(path, bi, tmp_path / "tuned", "--max-epochs", 15, *FASTER, *arguments) == 0
    capsys.readouterr()
    after = evaluate(capsys, path, "--model", tmp_path / "tuned")
    assert before["accuracy"] < 0.8
    assert after["accuracy"] > 0.95
    assert GLiClassClassifier.from_pretrained(tmp_path / "tuned").labels is None


def test_the_reference_package_loads_what_was_trained(reference, tmp_path, data):
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    output = tmp_path / "tuned"
    assert train(data, reference, output, "--max-epochs", 1, "--multi-label", *FAST) == 0
    pipeline = ZeroShotClassificationPipeline(
        GLiClassModel.from_pretrained(output),
        AutoTokenizer.from_pretrained(output),
        classification_type="multi-label",
        device="cpu",
        progress_bar=False,
    )
    clf = GLiClassMultiLabelClassifier.from_pretrained(output)
    (found,) = pipeline(["the fox jumps"], list(clf.classes_), threshold=0.0)
    scores = {entry["label"]: entry["score"] for entry in found}
    expected = clf.predict_frame(["the fox jumps"]).iloc[0].to_dict()
    assert scores == pytest.approx(expected, abs=1e-4)


def test_the_best_epoch_on_validation_data_is_written(uni, tmp_path, capsys):
    train_file, held_out = tmp_path / "train.json", tmp_path / "held_out.json"
    write_examples(train_file, ragged_rows())
    write_examples(held_out, ragged_rows(21))
    arguments = ["--max-epochs", 4, "--validation", held_out, *FAST]
    assert train(train_file, uni, tmp_path / "tuned", *arguments) == 0
    shown = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines())
    best = next(value for name, value in shown.items() if name.startswith("best validation"))
    result = evaluate(capsys, held_out, "--model", tmp_path / "tuned")
    assert f"{result['accuracy']:.4f}" == best.split()[0]


def test_validation_of_many_labels_counts_pairs(bi, tmp_path, capsys):
    path = tmp_path / "data.json"
    write_examples(path, from_arrays(*toy_sets(), labels=LABELS, multi_label=True))
    arguments = ["--max-epochs", 3, "--validation", path, *FAST]
    assert train(path, bi, tmp_path / "tuned", *arguments) == 0
    printed = capsys.readouterr().out
    result = evaluate(capsys, path, "--model", tmp_path / "tuned")
    assert f"best validation   {result['micro_f1']:.4f}" in printed


def test_training_stops_where_nothing_gets_better(bi, tmp_path, data, capsys):
    arguments = ["--learning-rate", 1e-9, "--head-learning-rate", 1e-9, "--max-epochs", 9]
    arguments += ["--validation-fraction", 0.3, "--n-iter-no-change", 2]
    assert train(data, bi, tmp_path / "tuned", *arguments) == 0
    assert "epochs            2\n" in capsys.readouterr().out


@pytest.mark.parametrize("extension", ["csv", pytest.param("json", marks=pytest.mark.slow)])
def test_tables_are_training_data_too(bi, tmp_path, data, capsys, extension):
    texts, y = toy()
    table = pd.DataFrame({"ticket": texts, "team": y, "id": range(len(y))})
    table_path, columns = tmp_path / f"table.{extension}", ["--text-column", "ticket"]
    if extension == "csv":
        table.to_csv(table_path, index=False)
        columns += ["--label-column", "team"]
    else:
        # By their names alone.
        table.columns, columns = ["text", "label", "id"], []
        table.to_json(table_path, orient="records")
    for name, path, more in (("a", table_path, columns), ("b", data, [])):
        assert train(path, bi, tmp_path / name, "--max-epochs", 1, *FAST, *more) == 0
    scores = [
        GLiClassClassifier.from_pretrained(tmp_path / name).predict_proba(texts) for name in "ab"
    ]
    np.testing.assert_array_equal(*scores)
    capsys.readouterr()
    model = ["--model", tmp_path / "a"]
    assert evaluate(capsys, table_path, *columns, *model) == evaluate(capsys, data, *model)


def test_a_table_of_label_sets(bi, tmp_path, capsys):
    texts, Y = toy_sets()
    cells = [" ; ".join(LABELS[j] for j in np.flatnonzero(row)) for row in Y]
    pd.DataFrame({"text": texts, "labels": cells}).to_csv(tmp_path / "data.csv", index=False)
    write_examples(tmp_path / "data.json", from_arrays(texts, Y, labels=LABELS, multi_label=True))
    clf = GLiClassMultiLabelClassifier(bi, LABELS)
    clf.save_pretrained(tmp_path / "saved")
    one, other = (
        evaluate(capsys, tmp_path / name, "--model", tmp_path / "saved", "--report")
        for name in ("data.csv", "data.json")
    )
    assert one == other
    arguments = ["--multi-label", "--max-epochs", 1]
    assert train(tmp_path / "data.csv", bi, tmp_path / "tuned", *arguments) == 0
    tuned = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.classes_.tolist() == sorted(LABELS)


@pytest.mark.parametrize("model", ["bi", "reference"])
def test_every_row_is_tokenised_with_its_own_prompt(model, request):
    engine = Engine(load_model(request.getfixturevalue(model)))
    rows = [
        Example("the fox", ["sport"], ["sport"], prompt="Which sport? "),
        Example("the world", ["travel"], [], prompt=""),
        Example("music today", ["music"], []),
    ]
    data = training_set(engine, rows, "Topic: ")
    for i, prompt in enumerate(["Which sport? ", "", "Topic: "]):
        (ids,) = data.texts.encode(np.array([i]))
        (expected,) = engine.composer.encode_texts([rows[i].text], prompt)
        assert ids.tolist() == expected.tolist()
        apart = engine.composer.encode_task_apart(prompt)
        assert data.texts.task(i).tolist() == apart.tolist()


def test_a_prompt_of_all_rows_is_kept_with_the_model(bi, tmp_path):
    rows = [Example(t, LABELS, [y], prompt="Topic: ") for t, y in zip(*toy(6), strict=True)]
    write_examples(tmp_path / "data.json", rows)
    assert train(tmp_path / "data.json", bi, tmp_path / "tuned", "--max-epochs", 1) == 0
    assert GLiClassClassifier.from_pretrained(tmp_path / "tuned").task_description == "Topic: "


@pytest.mark.filterwarnings("default::UserWarning")
def test_what_is_not_used_is_said(bi, tmp_path, capsys):
    shown = [PromptExample("the fox", ["sport"])]
    rows = [Example(t, LABELS, [y], examples=shown) for t, y in zip(*toy(6), strict=True)]
    write_examples(tmp_path / "data.json", rows)
    assert train(tmp_path / "data.json", bi, tmp_path / "tuned", "--max-epochs", 1) == 0
    assert "warning: 6 of 6 rows have in-context examples" in capsys.readouterr().err
    main(["evaluate", str(tmp_path / "data.json"), "--model", bi])
    assert "warning: 6 of 6 rows have in-context examples" in capsys.readouterr().err


def rows_with_examples():
    rows = []
    for i, row in enumerate(ragged_rows(12)):
        shown = [PromptExample("the fox", [row.all_labels[0]]), PromptExample("the world", [])]
        rows.append(replace(row, examples=shown[: i % 3]))
    return rows


def test_training_shows_the_examples_of_each_row(reference):
    engine = Engine(load_model(reference))
    rows = rows_with_examples()
    data = training_set(engine, rows)
    encoder = ExampleEncoder(engine.composer, "marker")
    for i, row in enumerate(rows):
        expected = [ids.tolist() for ids in encoder.encode(row.examples, row.all_labels)]
        assert [ids.tolist() for ids in data.examples.first(i, 9)] == expected


def test_evaluating_shows_the_examples_of_each_row(reference, tmp_path, capsys):
    rows = rows_with_examples()
    write_examples(tmp_path / "data.json", rows)
    with_examples = evaluate(capsys, tmp_path / "data.json", "--model", reference, "--multi-label")
    engine = Engine(load_model(reference))
    precisions = []
    for row in rows:
        labels = sorted(row.all_labels)
        logits = engine.logits([row.text], labels, examples=row.examples)
        truth = [[name in row.true_labels for name in labels]]
        precisions.append(label_ranking_average_precision_score(truth, logits))
    assert with_examples["lrap"] == pytest.approx(np.mean(precisions))
    write_examples(tmp_path / "bare.json", [replace(row, examples=()) for row in rows])
    bare = evaluate(capsys, tmp_path / "bare.json", "--model", reference, "--multi-label")
    assert bare != with_examples


def test_rows_with_examples_may_have_prompts_of_their_own(tmp_path):
    """Where the model reads the examples between the two, they are no one string any more."""
    reference_checkpoint(tmp_path, "qwen3", architecture_type="decoder-kv", prompt_first=True)
    engine = Engine(load_model(str(tmp_path)))
    rows = [replace(row, prompt=f"{i}: ") for i, row in enumerate(rows_with_examples())]
    data = training_set(engine, rows)
    for i in range(len(rows)):
        expected = engine.composer.encode_task_apart(f"{i}: ").tolist()
        assert data.texts.task(i).tolist() == expected
        assert len(data.examples.first(i, 9)) == i % 3


# Evaluating.


@pytest.mark.parametrize("model", ["bi", "reference"])
def test_figures_of_single_labels_are_those_of_scikit_learn(model, request, tmp_path, capsys):
    model = request.getfixturevalue(model)
    texts, y = toy(24)
    y[:3] = ["travel"] * 3
    write_examples(tmp_path / "data.json", from_arrays(texts, y))
    result = evaluate(capsys, tmp_path / "data.json", "--model", model, "--report")
    predicted = GLiClassClassifier(model, LABELS).predict(texts)
    assert result["n_samples"] == 24
    assert result["n_labels"] == 3
    assert result["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert result["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert result["micro_f1"] == pytest.approx(f1_score(y, predicted, average="micro"))
    assert "lrap" not in result
    assert result["report"] == classification_report(
        y, predicted, output_dict=True, zero_division=0
    )


def test_figures_of_many_labels_are_those_of_scikit_learn(bi, tmp_path, capsys):
    texts, Y = toy_sets()
    write_examples(tmp_path / "data.json", from_arrays(texts, Y, labels=LABELS, multi_label=True))
    arguments = ["--model", bi, "--threshold", 0.4, "--report"]
    result = evaluate(capsys, tmp_path / "data.json", *arguments)
    clf = GLiClassMultiLabelClassifier(bi, LABELS, threshold=0.4)
    predicted, scores = clf.predict(texts), clf.predict_proba(texts)
    assert result["subset_accuracy"] == pytest.approx(accuracy_score(Y, predicted))
    assert result["macro_f1"] == pytest.approx(f1_score(Y, predicted, average="macro"))
    assert result["micro_f1"] == pytest.approx(f1_score(Y, predicted, average="micro"))
    assert result["lrap"] == pytest.approx(label_ranking_average_precision_score(Y, scores))
    assert result["report"]["sport"]["support"] == Y[:, 1].sum()


def test_every_row_is_judged_among_its_own_labels(reference, tmp_path, capsys):
    rows = ragged_rows(18)
    rows[4] = Example(rows[4].text, rows[4].all_labels, rows[4].true_labels, prompt="Topic: ")
    write_examples(tmp_path / "data.json", rows)
    result = evaluate(capsys, tmp_path / "data.json", "--model", reference)
    right = [
        GLiClassClassifier(reference, list(row.all_labels), task_description=row.prompt)
        .predict([row.text])
        .item()
        == row.true_labels[0]
        for row in rows
    ]
    assert 0 < sum(right) < len(rows)
    assert result["accuracy"] == pytest.approx(np.mean(right))


def test_many_labels_are_ranked_among_those_of_the_row(bi, tmp_path, capsys):
    rows = [
        Example(text, [LABELS[i % 3], LABELS[(i + 1) % 3]], [LABELS[i % 3]])
        for i, text in enumerate(toy_sets(12)[0])
    ]
    write_examples(tmp_path / "data.json", rows)
    result = evaluate(capsys, tmp_path / "data.json", "--model", bi, "--multi-label")
    precisions, hits, chosen = [], 0, 0
    for row in rows:
        clf = GLiClassMultiLabelClassifier(bi, list(row.all_labels))
        scores = clf.predict_proba([row.text])
        precisions.append(label_ranking_average_precision_score([[1, 0]], scores))
        picked = clf.predict([row.text])[0]
        hits, chosen = hits + picked[0], chosen + picked.sum()
    assert len(set(precisions)) > 1
    assert result["lrap"] == pytest.approx(np.mean(precisions))
    assert result["micro_f1"] == pytest.approx(2 * hits / (chosen + len(rows)))


def test_a_saved_classifier_is_judged_with_all_that_it_has(bi, tmp_path, capsys):
    texts, Y = toy_sets()
    labels = {"T": "travel", "S": "sport", "M": "music"}
    clf = GLiClassMultiLabelClassifier(
        bi,
        labels,
        threshold="auto",
        calibrate=True,
        task_description="Topic: ",
        trainable="all",
        max_epochs=8,
        learning_rate=3e-3,
        head_learning_rate=3e-3,
        random_state=0,
    )
    # Some are wrong, or no temperature would be too low.
    y_val = np.where(np.arange(len(Y))[:, None] % 5 == 0, 1 - Y, Y)
    clf.fit(texts, Y, X_val=texts, y_val=y_val)
    assert clf.temperature_ != 1
    clf.save_pretrained(tmp_path / "saved")
    names = list(labels)
    rows = [
        Example(text, names, [names[j] for j in np.flatnonzero(row)])
        for text, row in zip(texts, Y, strict=True)
    ]
    write_examples(tmp_path / "data.json", rows)
    result = evaluate(capsys, tmp_path / "data.json", "--model", tmp_path / "saved")
    assert len(set(clf.thresholds_)) > 1
    assert result["micro_f1"] == pytest.approx(f1_score(Y, clf.predict(texts), average="micro"))


def test_figures_for_people(bi, data, capsys):
    assert main(["evaluate", str(data), "--model", bi, "--report"]) == 0
    figures, report = capsys.readouterr().out.split("\n\n", 1)
    lines = dict(line.split() for line in figures.splitlines())
    assert list(lines) == ["texts", "labels", "accuracy", "macro-F1", "micro-F1"]
    assert lines["texts"] == "36"
    assert all(label in report for label in LABELS)


def test_a_bar_on_long_work_in_a_terminal(bi, tmp_path, capsys, monkeypatch):
    write_examples(tmp_path / "data.json", ragged_rows(510))
    arguments = ["evaluate", str(tmp_path / "data.json"), "--model", bi]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(arguments) == 0
    assert "510/510" in capsys.readouterr().err


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.json"], "nowhere.json: there is no such file"),
        (["evaluate", "nowhere.json"], "nowhere.json: there is no such file"),
        (
            ["evaluate", "{own}", "--model", "{multi}", "--multi-label"],
            "own.csv: row 2 has the label 'elsewhere', which is none of the classes of",
        ),
        (["evaluate", "{txt}"], "data.txt: a .txt file is read as one text a line, without labels"),
        (["train", "{txt}"], "one text a line, without labels: give --labels to learn from"),
        (["train", "{empty}"], "empty.json: there are no rows"),
        (["train", "{bad}"], "bad.jsonl, line 2: true_labels names 'z'"),
        (["evaluate", "{bad}"], "bad.jsonl, line 2: true_labels names 'z'"),
        (["train", "{table}"], "texts alone; columns: text, team"),
        (["train", "{table}", "--label-column", "x"], "no column 'x'; columns: text, team"),
        (["train", "{table}", "--label-column", "team"], "row 2 has no label in column 'team'"),
        (["train", "{table}", "--text-column", "x"], "no column 'x'; columns: text, team"),
        (["train", "{sets}", "--single-label"], "the true labels of row 2 add up to 2"),
        (["train", "{nothing}"], "the weight of every row is 0"),
        (["train", "{data}", "--output", "{data}"], "this is a file; give a folder"),
        (["train", "{data}", "--output", "{full}"], "the folder is not empty; give a new one"),
        (["train", "{data}", "--n-iter-no-change", "2"], "needs --validation"),
        (["train", "{data}", "--validation-fraction", "1.5"], "between 0 and 1"),
        (["train", "{data}", "--validation-fraction", "0.99"], "leaves rows to learn from"),
        (["train", "{data}", "--validation", "{sets}"], "the true labels of row 2 add up to 2"),
        (["train", "{data}", "--learning-rate", "-1"], "'learning_rate' parameter"),
        (["train", "{data}", "--max-length", "100000"], "max_length=100000"),
        (["train", "{data}", "--model", "nobody/nothing"], "neither a folder"),
        (
            ["train", "{data}", "--learning-rate", "1e30", "--batch-size", "2"],
            "The training loss became",
        ),
        (["evaluate", "{shown}", "--model", "{first}"], "in row 2, examples[0] has the label 'z'"),
        (["evaluate", "{data}", "--model", "nobody/nothing"], "neither a folder"),
        (["evaluate", "{data}", "--model", "{uni}"], "without trained classification heads"),
        (["evaluate", "{data}", "--model", "{multi}", "--single-label"], "for the other kind"),
        (["evaluate", "{data}", "--threshold", "0.3"], "--threshold is for many labels"),
        (["evaluate", "{sets}", "--single-label"], "the true labels of row 2 add up to 2"),
        (["evaluate", "{sets}", "--threshold", "3"], "threshold"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(
    bi, uni, reference, tmp_path, capsys, arguments, message
):
    paths = {"uni": uni, "first": reference, "full": str(tmp_path)}
    files = {
        "data": ("data.json", from_arrays(*toy(6))),
        "empty": ("empty.json", []),
        "nothing": ("nothing.json", [Example("a", ["x"], ["x"], weight=0)]),
        "shown": (
            "shown.json",
            [
                Example("a", ["x"], []),
                Example("b", ["x"], [], examples=[PromptExample("c", ["z"])]),
            ],
        ),
    }
    files["sets"] = (
        "sets.json",
        [Example("a", ["x", "y"], ["x"]), Example("b", ["x", "y"], ["x", "y"])],
    )
    for name, (file, rows) in files.items():
        paths[name] = tmp_path / file
        write_examples(paths[name], rows)
    paths["bad"] = tmp_path / "bad.jsonl"
    good = '{"text": "a", "all_labels": ["x"], "true_labels": ["x"]}\n'
    paths["bad"].write_text(good + good.replace('["x"]}', '["z"]}'))
    paths["txt"] = tmp_path / "data.txt"
    paths["txt"].write_text("a")
    paths["table"] = tmp_path / "table.csv"
    pd.DataFrame({"text": ["a", "b"], "team": ["x", None]}).to_csv(paths["table"], index=False)
    paths["own"] = tmp_path / "own.csv"
    own = pd.DataFrame({"text": ["a", "b"], "label": [LABELS[0], f"{LABELS[1]};elsewhere"]})
    own.to_csv(paths["own"], index=False)
    if "{multi}" in arguments:
        paths["multi"] = tmp_path / "multi"
        GLiClassMultiLabelClassifier(bi, LABELS).save_pretrained(paths["multi"])
    filled = [argument.format(**paths) for argument in arguments]
    if "--model" not in filled:
        filled += ["--model", bi]
    if filled[0] == "train":
        filled += [] if "--output" in filled else ["--output", str(tmp_path / "tuned")]
        filled += ["--max-epochs", "1", "--trainable", "all"]
    assert main(filled) == 2
    captured = capsys.readouterr()
    # What a progress bar drew comes before the message, ended by a carriage return or a newline.
    said = captured.err[captured.err.index("skgliclass: ") :]
    assert message in said
    assert said.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "tuned").exists()


# Going on.


def test_a_stopped_training_goes_on(bi, tmp_path, data, capsys, monkeypatch):
    options = ["--max-epochs", "3", "--checkpoint-folder", str(tmp_path / "checkpoint")]
    assert train(data, bi, tmp_path / "whole", "--max-epochs", "3") == 0
    on_epoch = callbacks.FitCallbacks.on_epoch

    def stop(self, progress, make_state):
        if progress.epoch == 2:
            raise OSError("torn")
        return on_epoch(self, progress, make_state)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.FitCallbacks, "on_epoch", stop)
        assert train(data, bi, tmp_path / "tuned", *options) == 2
    assert not (tmp_path / "tuned").exists()
    assert train(data, bi, tmp_path / "tuned", *options) == 2
    assert "go on from it with --resume" in capsys.readouterr().err
    assert train(data, bi, tmp_path / "tuned", *options, "--resume") == 0
    whole, resumed = (load_file(tmp_path / f / "model.safetensors") for f in ("whole", "tuned"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert list((tmp_path / "checkpoint").iterdir()) == []


def test_what_cannot_go_on_is_said_at_once(bi, tmp_path, data, capsys):
    assert train(data, bi, tmp_path / "tuned", "--resume") == 2
    assert "--resume needs --checkpoint-folder" in capsys.readouterr().err
    nothing = ["--resume", "--checkpoint-folder", str(tmp_path)]
    assert train(data, bi, tmp_path / "tuned", *nothing) == 2
    assert "there is no checkpoint in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "-"], "stdin is read as one text a line, without labels: give --labels"),
        (["train", "lines.txt"], "lines.txt is read as one text a line, without labels: give"),
        (["train", "-", "--validation", "-"], "-: stdin is read as one text a line, without"),
        (["train", "data.csv", "--validation", "-"], "-: stdin is read as one text a line"),
        (["evaluate", "-"], "-: stdin is read as one text a line, without labels; give a table"),
        (["evaluate", "lines.txt"], "lines.txt: a .txt file is read as one text a line, without"),
    ],
    ids=str,
)
def test_labels_do_not_come_through_stdin(monkeypatch, tmp_path, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    table = "text,label\na fox,music\na dog,sport\n"
    for name in ("data.csv", "lines.txt"):
        (tmp_path / name).write_text(table)
    monkeypatch.setattr("sys.stdin", io.StringIO(table))
    output = ["--output", "tuned"] if arguments[0] == "train" else []
    assert main([*arguments, *output]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("command", ["train", "classify"])
def test_a_stdin_that_is_closed_is_told(monkeypatch, tmp_path, capsys, command):
    monkeypatch.setattr("sys.stdin", None)
    output = ["--output", str(tmp_path / "tuned")] if command == "train" else []
    assert main([command, "-", "--labels", "a", "b", *output]) == 2
    assert "stdin is closed; give a file" in capsys.readouterr().err
