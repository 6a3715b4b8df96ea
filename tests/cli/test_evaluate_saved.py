"""``skgliclass evaluate`` judges the classifier that ``classify`` and ``predict`` run."""

import json

import numpy as np
import pandas as pd
import pytest
from factorial import half_slow
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.datasets import Example, PromptExample, from_arrays, write_examples

TEXTS, MATRIX = toy_indicator(24, seed=3)
# Some are longer than a short prompt, and go on otherwise than they begin.
TEXTS = [" ".join((TEXTS * 2)[i : i + 1 + i % 5]) for i in range(len(TEXTS))]
TREE = {"art": ["music"], "life": {"out": ["sport", "travel"]}}
EXAMPLES = [("the lazy dog", ["sport"]), ("see the world", ["travel", "music"])]

SETTINGS = {
    "long_texts": {"long_texts": "chunk", "chunk_overlap": 2, "max_length": 24},
    "examples": {"examples": EXAMPLES},
    "n_retrieved": {"n_retrieved": 2},
    "n_permutations": {"n_permutations": 3},
    "shortlist": {"shortlist": 1},
    "hierarchy": {"labels": TREE, "hierarchy": "path"},
}
# What a classifier without the setting would have besides.
WITHOUT = {"long_texts": {"max_length": 24}, "hierarchy": {"labels": TREE}}


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi")))


def evaluate(capsys, *arguments):
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def write(path, labels, matrix):
    rows = [
        Example(text, labels, [labels[j] for j in np.flatnonzero(row)])
        for text, row in zip(TEXTS, matrix, strict=True)
    ]
    write_examples(path, rows)


@pytest.mark.filterwarnings("ignore:.*did not fit")
@half_slow(name=list(SETTINGS))
def test_a_saved_classifier_is_judged_by_its_own_predictions(uni, tmp_path, capsys, name):
    clf = GLiClassMultiLabelClassifier(uni, **{"labels": LABELS, **SETTINGS[name]}, max_epochs=0)
    clf.fit(TEXTS, MATRIX)
    clf.set_params(threshold=np.median(clf.predict_proba(TEXTS), axis=0).tolist())
    plain = GLiClassMultiLabelClassifier(
        uni, **{"labels": LABELS, **WITHOUT.get(name, {})}, threshold=clf.threshold
    )
    clf.save_pretrained(tmp_path / "saved")
    plain.save_pretrained(tmp_path / "plain")
    write(tmp_path / "data.json", clf.classes_.tolist(), MATRIX)
    result = evaluate(capsys, tmp_path / "data.json", "--model", tmp_path / "saved")
    chosen = clf.predict(TEXTS)
    expected = {
        "subset_accuracy": accuracy_score(MATRIX, chosen),
        "macro_f1": f1_score(MATRIX, chosen, average="macro", zero_division=0),
        "micro_f1": f1_score(MATRIX, chosen, average="micro", zero_division=0),
        "lrap": label_ranking_average_precision_score(MATRIX, clf.predict_proba(TEXTS)),
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    assert evaluate(capsys, tmp_path / "data.json", "--model", tmp_path / "plain") != result


def test_one_class_a_text_is_judged_by_predict(uni, tmp_path, capsys):
    texts, y = toy(24)
    clf = GLiClassClassifier(uni, LABELS, n_permutations=3, examples=[("the dog", "sport")])
    clf.save_pretrained(tmp_path / "saved")
    write_examples(tmp_path / "data.json", from_arrays(texts, y))
    result = evaluate(capsys, tmp_path / "data.json", "--model", tmp_path / "saved")
    assert result["accuracy"] == pytest.approx(accuracy_score(y, clf.predict(texts)))


def test_evaluating_and_classifying_a_table_agree(uni, tmp_path, capsys):
    texts, y = toy(12)
    clf = GLiClassClassifier(uni, LABELS, n_permutations=2, long_texts="chunk", max_length=32)
    clf.save_pretrained(tmp_path / "saved")
    pd.DataFrame({"text": texts, "team": y}).to_csv(tmp_path / "data.csv", index=False)
    options = ["--model", str(tmp_path / "saved"), "--text-column", "text"]
    output = tmp_path / "out.csv"
    assert main(["classify", str(tmp_path / "data.csv"), *options, "--output", str(output)]) == 0
    predicted = pd.read_csv(output)["label"]
    result = evaluate(capsys, tmp_path / "data.csv", *options, "--label-column", "team")
    assert result["accuracy"] == pytest.approx(accuracy_score(y, predicted))


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
@pytest.mark.parametrize("labels", [{False: "art", True: "sport"}, [" art", "sport "]])
@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_what_classify_writes_is_right_to_evaluate(bi, tmp_path, capsys, cls, labels, extension):
    options = {"threshold": 0.0} if cls is GLiClassMultiLabelClassifier else {}
    cls(bi, labels, **options).save_pretrained(tmp_path / "saved")
    (tmp_path / "in.csv").write_text("text\none day\nthe fox\n")
    model, out = ["--model", str(tmp_path / "saved")], tmp_path / f"out.{extension}"
    assert main(["classify", str(tmp_path / "in.csv"), *model, "--output", str(out)]) == 0
    result = evaluate(capsys, out, *model)
    assert result.get("accuracy", result.get("subset_accuracy")) == 1


def test_numbers_stand_for_classes_by_their_value(bi, tmp_path, capsys):
    """As pandas writes whole numbers of a column in which one is missing."""
    GLiClassClassifier(bi, {0: "art", 1: "sport"}).save_pretrained(tmp_path / "saved")
    results = []
    for cells in (("0", "1"), ("0.0", "1.0"), ("false", "TRUE")):
        (tmp_path / "in.csv").write_text(f"text,label\none day,{cells[0]}\nthe fox,{cells[1]}\n")
        results.append(evaluate(capsys, tmp_path / "in.csv", "--model", tmp_path / "saved"))
    assert results[0] == results[1] == results[2]
    assert results[0]["n_labels"] == 2


def test_a_class_may_be_called_as_a_summary(bi, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("text,label\none day,accuracy\nthe fox,macro avg\n")
    report = evaluate(capsys, tmp_path / "in.csv", "--model", bi, "--report")["report"]
    assert {"accuracy (label)", "macro avg (label)", "macro avg"} <= report.keys()
    assert report["macro avg (label)"]["support"] == 1


@pytest.mark.parametrize("shortlist", [None, 1])
def test_other_labels_are_scored_as_by_a_classifier_with_these(uni, bi, shortlist):
    """With its options, but without the labelled texts and the tree, which name its classes."""
    options = {"n_permutations": 2, "shortlist": shortlist, "shortlist_model": bi}
    clf = GLiClassMultiLabelClassifier(
        uni, {"m": "music", "s": "sport"}, examples=[("the dog", ["s"])], **options
    )
    rows = [
        Example("the fox", ["travel", "joy"], [], prompt="Topic: "),
        Example("the world", ["joy", "m"], []),
    ]
    probabilities, chosen = clf.predict_proba(rows), clf.predict(rows)
    for row, scores, own, texts in zip(
        rows, probabilities, chosen, (["joy", "travel"], ["joy", "music"]), strict=True
    ):
        other = GLiClassMultiLabelClassifier(uni, texts, task_description=row.prompt, **options)
        names = {"m": "music"}
        expected = other.predict_frame([row.text])[[names.get(k, k) for k in row.all_labels]]
        np.testing.assert_allclose(scores, expected.to_numpy()[0], atol=1e-5)
        np.testing.assert_array_equal(own, scores >= 0.5)


def test_examples_of_a_row_come_before_those_of_the_classifier(uni):
    clf = GLiClassClassifier(uni, {"m": "music", "s": "sport"}, examples=[("the dog", "s")])
    row = Example("the fox", ["s", "m"], [], examples=[PromptExample("a café", ["m"])])
    (scores,) = clf.predict_proba([row])
    both = [("a café", "m"), ("the dog", "s")]
    expected = clf.set_params(examples=both).predict_frame(["the fox"])[["s", "m"]]
    np.testing.assert_allclose(scores, expected.to_numpy()[0], atol=1e-6)


def test_a_classifier_that_abstains_is_judged_and_run_as_it_predicts(bi, tmp_path, capsys):
    texts, y = toy(9)
    sure = GLiClassClassifier(bi, LABELS).predict_proba(texts).max(axis=1)
    clf = GLiClassClassifier(bi, LABELS, other="other", min_probability=float(np.median(sure)))
    predicted = clf.predict(texts)
    assert 0 < (predicted == "other").sum() < 9
    clf.save_pretrained(tmp_path / "saved")
    pd.DataFrame({"text": texts, "label": y}).to_csv(tmp_path / "data.csv", index=False)
    model = ["--model", str(tmp_path / "saved"), "--text-column", "text"]
    result = evaluate(capsys, tmp_path / "data.csv", *model)
    assert result["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    # A row of no class is right where none is predicted.
    pd.DataFrame({"text": texts, "label": predicted}).to_csv(tmp_path / "none.csv", index=False)
    assert evaluate(capsys, tmp_path / "none.csv", *model)["accuracy"] == 1
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "texts.csv", index=False)
    output = tmp_path / "out.csv"
    assert main(["classify", str(tmp_path / "texts.csv"), *model, "--output", str(output)]) == 0
    assert pd.read_csv(output)["label"].tolist() == predicted.tolist()
