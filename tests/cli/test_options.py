"""The options that the commands share: each has an effect, or is refused."""

import errno
import gzip
import json
import os
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.cli.errors import CommandError
from skgliclass.cli.options import read_labels
from skgliclass.datasets import Example, from_arrays, write_examples
from skgliclass.estimators.callbacks import FitCallbacks
from skgliclass.estimators.parameters import PARAMETERS

LEARN = ["--trainable", "all", "--max-epochs", 6, "--learning-rate", 3e-3]
WORDINGS = {"music": "a café", "sport": "the lazy dog", "travel": "one day"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("options")


@pytest.fixture(scope="module")
def bi(folder):
    return str(sentence_transformer(folder / "bi"))


@pytest.fixture(scope="module")
def uni(folder):
    reference_checkpoint(
        folder / "uni", prompt_first=True, scorer_type="mlp", pooling_strategy="avg"
    )
    return str(folder / "uni")


@pytest.fixture(scope="module")
def files(folder, bi):
    texts, y = toy(18)
    of_many, matrix = toy_indicator(18)
    pd.DataFrame({"text": texts, "label": y}).to_csv(folder / "table.csv", index=False)
    some = np.where(np.arange(18) % 6 == 5, "none", y)
    pd.DataFrame({"text": texts, "label": some}).to_csv(folder / "others.csv", index=False)
    write_examples(folder / "one.json", from_arrays(texts, y))
    many = from_arrays(of_many, matrix, labels=LABELS, multi_label=True)
    write_examples(folder / "many.json", many)
    own = [Example(text, [label, "joy"], [label]) for text, label in zip(texts, y, strict=True)]
    write_examples(folder / "own.json", own)
    asked = [Example(row.text, row.all_labels, row.true_labels, prompt="Topic: ") for row in own]
    write_examples(folder / "asked.json", asked)
    (folder / "wordings.json").write_text(json.dumps(WORDINGS))
    (folder / "two.json").write_text(json.dumps(LABELS[:2]))
    clf = GLiClassClassifier(bi, WORDINGS, task_description="Topic: ", max_epochs=0)
    clf.save_pretrained(folder / "saved")
    return {path.stem: str(path) for path in folder.iterdir()}


def run(command, *arguments):
    return main([command, *map(str, arguments)])


def train(data, model, output, *arguments):
    quick = ["--max-epochs", 1, "--trainable", "head", "--batch-size", 9]
    return run("train", data, "--model", model, "--output", output, *quick, *arguments)


def evaluate(capsys, *arguments):
    capsys.readouterr()
    assert run("evaluate", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


# What they do.


def test_every_way_of_scoring_is_an_option_of_all_commands_that_score(capsys):
    scoring = [name for name, parameter in PARAMETERS.items() if parameter.option == "scoring"]
    assert {"threshold", "long_texts", "n_retrieved", "label_template"} < set(scoring)
    for command in ("train", "evaluate", "classify"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        missing = [name for name in scoring if f"--{name.replace('_', '-')}" not in text]
        assert missing == []
        assert "--labels-file" in text


def test_training_with_label_texts_is_what_fit_does(bi, files, tmp_path):
    options = ["--labels-file", files["wordings"], "--label-template", "about {}", "--seed", 3]
    assert train(files["table"], bi, tmp_path / "tuned", *options) == 0
    texts, y = toy(18)
    clf = GLiClassClassifier(
        bi,
        WORDINGS,
        label_template="about {}",
        max_epochs=1,
        trainable="head",
        batch_size=9,
        random_state=3,
    ).fit(texts, y)
    tuned = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.labels == WORDINGS
    np.testing.assert_allclose(tuned.predict_proba(texts), clf.predict_proba(texts), atol=1e-5)


def test_thresholds_are_tuned_on_held_out_rows(bi, files, tmp_path):
    options = ["--threshold", "auto", "--validation", files["many"]]
    assert train(files["many"], bi, tmp_path / "tuned", *options) == 0
    tuned = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "tuned")
    assert (tuned.thresholds_ != 0.5).any()


def test_a_temperature_is_tuned_on_held_out_rows(bi, files, tmp_path):
    texts, y = toy(18)
    # Right for most texts, but not for all, so that there is a best one.
    y[:14] = GLiClassClassifier(bi, LABELS).predict(texts[:14])
    write_examples(tmp_path / "held_out.json", from_arrays(texts, y))
    options = ["--calibrate", "--validation", tmp_path / "held_out.json", "--max-epochs", 0]
    assert train(files["one"], bi, tmp_path / "tuned", *options) == 0
    assert GLiClassClassifier.from_pretrained(tmp_path / "tuned").temperature_ != 1


def test_a_trained_classifier_retrieves(uni, files, tmp_path):
    assert train(files["table"], uni, tmp_path / "tuned", "--n-retrieved", 2) == 0
    tuned = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.n_retrieved == 2
    texts, y = toy(18)
    clf = GLiClassClassifier(uni, LABELS, n_retrieved=2, max_epochs=0).fit(texts, y)
    assert not np.allclose(
        tuned.predict_proba(texts), clf.set_params(n_retrieved=0).predict_proba(texts)
    )


def test_evaluation_takes_label_texts_and_how_long_texts_are_read(uni, files, capsys):
    texts, y = toy(18)
    options = ["--label-template", "about {}", "--max-length", 24, "--long-texts", "chunk"]
    words = ["--labels-file", files["wordings"]]
    clf = GLiClassClassifier(
        uni, WORDINGS, label_template="about {}", max_length=24, long_texts="chunk"
    )
    result = evaluate(capsys, files["table"], "--model", uni, *options, *words)
    assert result["accuracy"] == accuracy_score(y, clf.predict(texts))


def test_labels_that_no_row_has_are_chosen_from(bi, files, tmp_path, capsys):
    extra = ["--labels", *LABELS, "joy"]
    assert train(files["table"], bi, tmp_path / "tuned", *extra) == 0
    tuned = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.classes_.tolist() == sorted([*LABELS, "joy"])
    assert evaluate(capsys, files["table"], "--model", bi, *extra)["n_labels"] == 4


def test_training_goes_on_from_a_saved_classifier_as_it_is(files, tmp_path):
    assert train(files["table"], files["saved"], tmp_path / "tuned") == 0
    tuned = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.labels == WORDINGS
    assert tuned.task_description == "Topic: "


@pytest.mark.filterwarnings("ignore:.*learn from")
def test_training_on_other_labels_forgets_those_of_a_saved_classifier(files, tmp_path):
    pd.DataFrame({"text": ["a", "b"], "label": ["yes", "no"]}).to_csv(tmp_path / "new.csv")
    assert train(tmp_path / "new.csv", files["saved"], tmp_path / "tuned") == 0
    tuned = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.classes_.tolist() == ["no", "yes"]


def test_a_saved_classifier_of_the_other_kind_is_a_model_alone(files, tmp_path):
    assert train(files["many"], files["saved"], tmp_path / "tuned") == 0
    tuned = GLiClassMultiLabelClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.task_description is None


def test_rows_of_no_class_tune_when_to_abstain(bi, files, tmp_path, capsys):
    options = ["--other", "none", "--validation", files["others"]]
    assert train(files["others"], bi, tmp_path / "tuned", *options, *LEARN) == 0
    tuned = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert tuned.classes_.tolist() == LABELS
    assert tuned.min_probability_ != 0.5
    table = pd.read_csv(files["others"])
    result = evaluate(capsys, files["others"], "--model", tmp_path / "tuned")
    assert result["accuracy"] == tuned.score(table["text"], table["label"])
    assert result["n_labels"] == 3


@pytest.mark.filterwarnings("default:.*is (one label|the only class)")
def test_several_labels_in_one_string_are_noticed(files, bi, capsys):
    labels = ["--labels", "sci-fi, a trip;dogs"]
    for arguments in (["evaluate", files["own"]], ["classify", "a text"]):
        assert run(*arguments, "--model", bi, *labels) == 0
        assert "for 3 write --labels sci-fi 'a trip' dogs" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:.*is (one label|a label|the only class)")
@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (["--labels", "a trip,", "dogs"], "for 2 write --labels 'a trip' dogs"),
        (["--labels", '["a trip", "dogs"]'], "for 2 write --labels 'a trip' dogs"),
        (["--labels", "['a trip', 'dogs']"], "for 2 write --labels 'a trip' dogs"),
        ("a trip, dogs\n", "for 2 write one on each line"),
    ],
)
def test_what_stands_between_labels_is_noticed(bi, tmp_path, capsys, labels, hint):
    if isinstance(labels, str):
        (tmp_path / "labels.txt").write_text(labels)
        labels = ["--labels-file", tmp_path / "labels.txt"]
    assert run("classify", "a text", "--model", bi, *labels) == 0
    assert hint in capsys.readouterr().err


def test_labels_may_be_given_one_by_one(bi, capsys):
    labels = ["--labels", "dogs", "--labels", "a trip"]
    assert run("classify", "a text", "--model", bi, *labels) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert {line.rsplit(maxsplit=1)[0] for line in captured.out.splitlines()} == {"a trip", "dogs"}


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.tsv"])
def test_a_table_is_no_file_of_labels(tmp_path, name):
    (tmp_path / name).write_text("label\nsport\n")
    with pytest.raises(CommandError, match="it is a table"):
        read_labels(str(tmp_path / name))


@pytest.mark.parametrize("kind", [[], ["--multi-label"]])
def test_held_out_rows_have_labels_that_are_learnt(bi, files, tmp_path, capsys, kind):
    (tmp_path / "val.csv").write_text("text,label\na goal,sport\na form,taxes\n")
    held_out = ["--validation", tmp_path / "val.csv", *kind]
    assert train(files["table"], bi, tmp_path / "tuned", *held_out) == 2
    err = capsys.readouterr().err
    assert (
        f"val.csv: row 2 has the label 'taxes', which is none of the labels of {files['table']}"
        in err
    )


def test_a_saved_classifier_learns_more_about_its_own_classes(bi, tmp_path):
    GLiClassClassifier(bi, {0: "art", 1: "sport"}).save_pretrained(tmp_path / "saved")
    (tmp_path / "in.csv").write_text("text,label\none day,0.0\nthe fox,1.0\n")
    assert train(tmp_path / "in.csv", tmp_path / "saved", tmp_path / "tuned") == 0
    assert GLiClassClassifier.from_pretrained(tmp_path / "tuned").classes_.tolist() == [0, 1]


@pytest.mark.filterwarnings("default:.* rows offer one label alone")
def test_rows_with_nothing_to_choose_from_are_told(bi, tmp_path, capsys):
    (tmp_path / "one.csv").write_text("text,label\na goal,sport\na match,sport\n")
    said = "2 of 2 rows offer one label alone, which always gets a probability of 1"
    assert train(tmp_path / "one.csv", bi, tmp_path / "tuned") == 0
    assert said in capsys.readouterr().err
    assert run("evaluate", tmp_path / "one.csv", "--model", bi) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("validation", [True, False])
def test_an_interrupted_training_writes_the_best_weights_so_far(
    bi, files, tmp_path, capsys, monkeypatch, validation
):
    """By a real signal, in the middle of the first epoch."""
    monkeypatch.setattr(
        FitCallbacks, "on_step", lambda self, loss: os.kill(os.getpid(), signal.SIGINT)
    )
    held_out = ["--validation", files["table"]] if validation else []
    assert train(files["table"], bi, tmp_path / "tuned", *held_out) == 130
    captured = capsys.readouterr()
    assert captured.err.startswith("skgliclass: interrupted after ")
    assert str(tmp_path / "tuned") in captured.err
    assert len(captured.err.splitlines()) == 1
    clf = GLiClassClassifier.from_pretrained(tmp_path / "tuned")
    assert set(clf.predict(toy(6)[0])) <= set(LABELS)


def test_a_training_that_is_stopped_while_it_writes_leaves_nothing(
    bi, files, tmp_path, capsys, monkeypatch
):
    synchronise = os.fsync

    def stop(descriptor):
        if any(tmp_path.rglob("*.safetensors")):
            os.kill(os.getpid(), signal.SIGINT)
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", stop)
    assert train(files["table"], bi, tmp_path / "tuned") == 130
    assert capsys.readouterr().err == "skgliclass: interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_when_it_comes_to_writing_leaves_nothing(
    bi, files, tmp_path, capsys, monkeypatch
):
    synchronise = os.fsync

    def fill(descriptor):
        if any(tmp_path.rglob("*.safetensors")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    assert train(files["table"], bi, tmp_path / "tuned") == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bar_is_shown_in_a_terminal_alone(bi, files, tmp_path, capsys, monkeypatch):
    assert train(files["table"], bi, tmp_path / "a") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert train(files["table"], bi, tmp_path / "b") == 0
    assert "2/2" in capsys.readouterr().err


# What is refused, for it would do nothing or could not be done.


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("both", ["{one}", "--chunk-overlap", "3"], "--chunk-overlap has no effect without --long"),
        ("both", ["{one}", "--chunk-pooling", "max"], "no effect without --long-texts chunk"),
        ("both", ["{one}", "--retrieval-backend", "numpy"], "no effect without --n-retrieved"),
        ("both", ["{one}", "--shortlist-model", "mini"], "has no effect without --shortlist"),
        ("both", ["{one}", "--min-probability", "0.3"], "has no effect without --other"),
        ("both", ["{one}", "--example-format", "tags"], "no examples are shown"),
        ("both", ["{one}", "--revision", "main"], "--revision is for a hub repository"),
        ("both", ["{one}", "--threshold", "0.3"], "--threshold is for many labels a text"),
        ("both", ["{many}", "--other", "x"], "--other is for one label a text"),
        ("both", ["{one}", "--label-template", "x"], "label_template"),
        ("both", ["{one}", "--threshold", "3", "--multi-label"], "'threshold' parameter"),
        ("both", ["{one}", "--hierarchy", "path"], "hierarchy"),
        ("both", ["{table}", "--labels-file", "{two}"], "row 3 has the label 'travel', which is"),
        (
            "both",
            ["{table}", "--labels-file", "no.json"],
            "--labels-file no.json: there is no such",
        ),
        ("both", ["{one}", "--n-jobs", "0"], "'n_jobs' parameter"),
        ("both", ["{one}", "--text-column", "text"], "--text-column has no effect: "),
        ("both", ["{one}", "--label-separator", "|"], "is in the GLiClass training format"),
        ("both", ["{one}", "--no-header"], "--no-header is not for .json files"),
        ("both", ["{table}", "--label-separator", "|"], "has no effect without --multi-label"),
        ("train", ["{one}", "--focal-alpha", "0.3"], "--focal-alpha is for many labels a text"),
        ("train", ["{one}", "--lora-rank", "3"], "has no effect without --trainable lora"),
        ("train", ["{one}", "--tol", "0.3"], "has no effect without --n-iter-no-change"),
        ("train", ["{one}", "--calibrate", "--trainable", "all"], "--calibrate needs --validation"),
        (
            "train",
            ["{many}", "--threshold", "auto", "--trainable", "head"],
            "--threshold auto needs --validation",
        ),
        (
            "train",
            ["{own}", "--calibrate", "--trainable", "auto"],
            "calibrate=True needs held-out rows",
        ),
        ("train", ["{one}", "--gradient-checkpointing"], "another --trainable than head"),
        (
            "train",
            ["{one}", "--learning-rate", "1", "--head-learning-rate", "1"],
            "--learning-rate has no effect beside",
        ),
        ("train", ["{own}", "--n-retrieved", "1"], "needs rows that all have the same labels"),
        ("train", ["{own}", "--calibrate", "--validation", "{own}"], "calibrate needs held-out"),
        ("train", ["{asked}", "--task-description", "x"], "every row of"),
        (
            "train",
            ["{others}", "--other", "none", "--trainable", "head"],
            'min_probability="auto" needs held-out rows',
        ),
        ("train", ["{one}", "--resume"], "--resume needs --checkpoint-folder"),
        ("train", ["{one}", "--checkpoint-folder", "{output}"], "this is --output"),
        ("evaluate", ["{one}", "--n-retrieved", "2"], "keeps none; train it with"),
    ],
)
def test_options_without_effect_are_refused(files, bi, tmp_path, capsys, command, options, message):
    output = str(tmp_path / "tuned")
    filled = [option.format(**files, output=output) for option in options]
    for name in ("train", "evaluate") if command == "both" else (command,):
        status = (
            train(filled[0], bi, output, *filled[1:])
            if name == "train"
            else run(name, filled[0], "--model", bi, *filled[1:])
        )
        said = capsys.readouterr().err
        assert (status, message in said) == (2, True), said
        assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a", "--threshold", "0.3"], "--threshold is for many labels a text"),
        (["a", "--chunk-overlap", "3"], "has no effect without --long-texts chunk"),
        (["a", "--n-retrieved", "3"], "keeps none; train it with"),
        (["a", "--escape-formulas"], "--escape-formulas has no effect"),
        (["a", "--escape-formulas", "--output", "a.jsonl"], "--escape-formulas has no effect"),
        (["a", "--output", ""], "--output is empty"),
    ],
)
def test_options_of_classify_without_effect_are_refused(bi, capsys, options, message):
    assert run("classify", *options, "--model", bi, "--labels", "x", "y") == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"\xef\xbb\xbfa b\r\n\n c\n", ["a b", "c"]),
        ("a.txt", "one\u2028line\nx\x0by\n".encode(), ["one\u2028line", "x\x0by"]),
        ("a.json", b'\xef\xbb\xbf{"a": "x"}', {"a": "x"}),
        ("a.labels", b'["a", "b"]', ["a", "b"]),
        ("a.json", b'{"a": "x", "a": "y"}', "'a' is there twice"),
        ("a.json", b'"a"', "neither a list nor an object"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.json", b"[]", "there are no labels in it"),
        ("a.txt", b"\n \n", "there are no labels in it"),
        ("a.txt", b"a\rb", ["a", "b"]),
        ("a.txt.gz", gzip.compress(b"a\nb", mtime=0), ["a", "b"]),
        ("a.txt", "café".encode("utf-16"), "labels-file .*a.txt.*UTF-16.*give --encoding utf-16"),
        ("a.txt", "x\ncafé".encode("cp1252"), "line 2 is not in utf-8 .* give its --encoding"),
    ],
)
def test_files_of_labels(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(CommandError, match=expected):
            read_labels(str(tmp_path / name))
    else:
        assert read_labels(str(tmp_path / name)) == expected


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "café\nthé"), ("a.json", '["café", "thé"]'), ("b.txt", "a\nb")]
)
def test_labels_are_in_utf_8_or_in_the_encoding(tmp_path, encoding, name, content):
    path = tmp_path / name
    path.write_text(content, encoding=encoding)
    expected = ["a", "b"] if name == "b.txt" else ["café", "thé"]
    assert read_labels(str(path), encoding) == expected
    # Those of one's own beside data of somebody else's.
    path.write_text(content, encoding="utf-8")
    if encoding == "cp1252":
        assert read_labels(str(path), encoding) == expected


def test_the_encoding_may_be_for_labels_alone(bi, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("café\nthé", encoding="cp1252")
    labels = ["--model", bi, "--labels-file", tmp_path / "labels.txt"]
    assert run("classify", "a text", *labels, "--encoding", "cp1252") == 0
    assert "café" in capsys.readouterr().out
    assert run("classify", "a text", *labels) == 2
    assert "labels.txt: line 1 is not in utf-8" in capsys.readouterr().err
    assert run("classify", "a text", "--labels", "a", "b", "--encoding", "cp1252") == 2
    assert "--encoding, --separator and --no-header are for files" in capsys.readouterr().err
