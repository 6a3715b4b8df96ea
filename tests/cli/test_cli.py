import io
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from tiny import reference_checkpoint

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier, __version__
from skgliclass.__main__ import main

TEXTS = ["One day I will see the world!", "the lazy dog, twice", "music"]
LABELS = ["travel", "dreams", "sport"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.fixture(scope="module")
def expected(model):
    return GLiClassClassifier(model, LABELS).predict(TEXTS).tolist()


def classify(model, *arguments):
    return main(["classify", *map(str, arguments), "--model", model, "--labels", *LABELS])


def test_one_text_prints_every_label_best_first(model, expected, capsys):
    assert classify(model, TEXTS[0]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][0] == expected[0]
    assert sorted(name for name, _ in lines) == sorted(LABELS)
    scores = [float(score) for _, score in lines]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=2e-3)


def test_what_is_predicted_is_told_of_texts_that_are_arguments(model, expected, capsys):
    clf = GLiClassMultiLabelClassifier(model, LABELS)
    limit = float(np.median(clf.predict_proba(TEXTS[:1])))
    assert classify(model, TEXTS[0], "--multi-label", "--threshold", limit) == 0
    lines = capsys.readouterr().out.splitlines()
    marked = {line.split()[0] for line in lines if line.endswith("*")}
    assert marked == set(clf.set_params(threshold=limit).predict_labels(TEXTS[:1])[0])
    assert 0 < len(marked) < len(lines)
    for limit, first in ((1.0, "none"), (0.0, expected[0])):
        assert classify(model, TEXTS[0], "--other", "none", "--min-probability", limit) == 0
        assert capsys.readouterr().out.split()[0] == first


@pytest.mark.parametrize(
    "extension",
    ["csv", "tsv", "jsonl", "json", pytest.param("parquet", marks=pytest.mark.needs("pyarrow"))],
)
def test_tables_in_every_format(model, expected, tmp_path, extension):
    table = pd.DataFrame({"id": [7, 8, 9], "review": TEXTS})
    source, target = tmp_path / f"in.{extension}", tmp_path / f"out.{extension}"
    {
        "csv": lambda: table.to_csv(source, index=False),
        "tsv": lambda: table.to_csv(source, sep="\t", index=False),
        "jsonl": lambda: table.to_json(source, orient="records", lines=True),
        "json": lambda: table.to_json(source, orient="records"),
        "parquet": lambda: table.to_parquet(source),
    }[extension]()
    assert classify(model, source, "--text-column", "review", "--output", target) == 0
    result = {
        "csv": lambda: pd.read_csv(target),
        "tsv": lambda: pd.read_csv(target, sep="\t"),
        "jsonl": lambda: pd.read_json(target, lines=True),
        "json": lambda: pd.read_json(target),
        "parquet": lambda: pd.read_parquet(target),
    }[extension]()
    assert result["id"].tolist() == [7, 8, 9]
    assert result["review"].tolist() == TEXTS
    assert result["label"].tolist() == expected
    assert result["score"].between(1 / 3, 1).all()


def test_lines_of_stdin(model, expected, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    assert classify(model, "-") == 0
    result = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert result["text"].tolist() == TEXTS
    assert result["label"].tolist() == expected


def test_many_labels_and_scores(model, tmp_path):
    target = tmp_path / "out.csv"
    arguments = ["--multi-label", "--threshold", "0.4", "--scores", "--output", target]
    assert classify(model, *TEXTS, *arguments) == 0
    result = pd.read_csv(target, keep_default_na=False)
    clf = GLiClassMultiLabelClassifier(model, LABELS, threshold=0.4)
    assert result["labels"].tolist() == ["; ".join(names) for names in clf.predict_labels(TEXTS)]
    scores = result[[f"score: {label}" for label in LABELS]].to_numpy()
    assert scores == pytest.approx(clf.predict_proba(TEXTS), abs=1e-4)


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
def test_a_saved_classifier_has_its_own_labels_kind_and_thresholds(model, tmp_path, capsys, cls):
    many = cls is GLiClassMultiLabelClassifier
    y = [["travel"], ["sport"], ["dreams", "sport"]] if many else LABELS
    own = {"threshold": [0.2, 0.9, 0.5]} if many else {}
    clf = cls(model, {name: f"about {name}" for name in LABELS}, **own, trainable="head")
    folder = str(tmp_path / "saved")
    clf.fit(TEXTS, y).save_pretrained(folder)
    assert main(["classify", *TEXTS, "--model", folder, "--output", str(tmp_path / "out.csv")]) == 0
    result = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    if many:
        assert result["labels"].tolist() == ["; ".join(k) for k in clf.predict_labels(TEXTS)]
        options = ["--threshold", "0.1", "--output", str(tmp_path / "low.csv")]
        assert main(["classify", *TEXTS, "--model", folder, *options]) == 0
        clf.set_params(threshold=0.1)
        low = pd.read_csv(tmp_path / "low.csv", keep_default_na=False)
        assert low["labels"].tolist() == ["; ".join(k) for k in clf.predict_labels(TEXTS)]
    else:
        assert result["label"].tolist() == clf.predict(TEXTS).tolist()
        assert main(["classify", *TEXTS, "--model", folder, "--multi-label"]) == 2
        assert "holds a GLiClassClassifier, which is for the other" in capsys.readouterr().err


def test_a_saved_classifier_as_a_model_is_told_apart(model, tmp_path):
    GLiClassClassifier(model, LABELS).save_pretrained(tmp_path)
    with pytest.raises(NotFittedError, match=r"read it with GLiClassClassifier.from_pretrained"):
        GLiClassClassifier(str(tmp_path)).predict(TEXTS)


def test_blank_lines_of_stdin_are_named(model, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n\nb\n \n"))
    assert classify(model, "-") == 2
    captured = capsys.readouterr()
    assert "stdin: line 2 is blank (2 such lines); remove them" in captured.err
    assert captured.out == ""


def test_labels_are_asked_for_where_none_are_saved(model, capsys):
    assert main(["classify", "a", "--model", model]) == 2
    assert "give --labels or --labels-file" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lines", "dict"])
def test_labels_from_a_file(model, tmp_path, capsys, kind):
    if kind == "lines":
        file = tmp_path / "labels.txt"
        file.write_text("travel\n\nsport\n")
    else:
        file = tmp_path / "labels.json"
        file.write_text(json.dumps({"T": "travel", "S": "sport"}))
    assert main(["classify", "music", "--model", model, "--labels-file", str(file)]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert names == ({"travel", "sport"} if kind == "lines" else {"T", "S"})


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_on_long_work_in_a_terminal(model, tmp_path, capsys, monkeypatch, is_terminal):
    source = tmp_path / "in.csv"
    pd.DataFrame({"text": [f"the world {i}" for i in range(600)]}).to_csv(source, index=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    assert classify(model, source) == 0
    captured = capsys.readouterr()
    assert ("600/600" in captured.err) == is_terminal
    assert len(pd.read_csv(io.StringIO(captured.out))) == 600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv: there is no such file"),
        (["data/nowhere.xls"], "data/nowhere.xls: there is no such file"),
        (["./nowhere.dat"], "./nowhere.dat: there is no such file"),
        (["nowhere.ods"], "nowhere.ods: there is no such file"),
        (["{csv}"], "choose the texts with --text-column; columns: id, review"),
        (["{csv}", "--text-column", "x"], "no column 'x'; columns: id, review"),
        (["{gap}"], "row 2 has no text in column 'text' (1 such row)"),
        (["{docx}"], "unknown extension"),
        (["text", "--output", "out.docx"], "unknown extension"),
        (["text", "--output", "no/such/folder/out.csv"], "there is no folder"),
        (["text", "--threshold", "0.4"], "--threshold is for many labels a text"),
        (["text", "--max-length", "100000"], "max_length=100000"),
        (["text", "--model", "nobody/nothing"], "neither a folder"),
        (["{taken}", "--label-column-out", "label"], "has this column already"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(model, tmp_path, capsys, arguments, message):
    files = {
        "csv": pd.DataFrame({"id": [1], "review": ["a"]}),
        "gap": pd.DataFrame({"text": ["a", None]}),
        "taken": pd.DataFrame({"text": ["a"], "label": ["b"]}),
    }
    paths = {"docx": tmp_path / "a.docx"}
    paths["docx"].write_text("")
    for name, table in files.items():
        paths[name] = tmp_path / f"{name}.csv"
        table.to_csv(paths[name], index=False)
    own = [] if "--model" in arguments else ["--model", model]
    filled = [argument.format(**paths) for argument in arguments]
    assert main(["classify", *filled, *own, "--labels", *LABELS]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("skgliclass: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert __version__ in capsys.readouterr().out
