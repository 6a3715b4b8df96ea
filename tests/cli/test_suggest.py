"""``skgliclass suggest``: which rows of a table to label next."""

import io

import numpy as np
import pandas as pd
import pytest
from tiny import sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.cli import tables

N_ROWS = 30
TEXTS, Y = toy(N_ROWS)
Y = Y.tolist()
# The first ten rows have a label.
SOME = [label if i < 10 else None for i, label in enumerate(Y)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture
def suggest(model, capsys):
    def suggest(data, *arguments, status=0):
        """Give what is written to stdout."""
        options = [] if "--model" in arguments else ["--model", model]
        ended = main(["suggest", *map(str, [data, *options, *arguments])])
        told, suggest.said = capsys.readouterr()
        assert ended == status, suggest.said
        return told

    return suggest


def table(path, **columns):
    pd.DataFrame({"id": [f"{i:03d}" for i in range(N_ROWS)], "text": TEXTS, **columns}).to_csv(
        path, index=False
    )
    return path


def chosen(model, n_rows, y=None, kind=GLiClassClassifier, **parameters):
    return kind(model, LABELS, random_state=0, **parameters).suggest_rows(TEXTS, n_rows, y)


def test_rows_come_out_as_they_came_in_beside_their_numbers(suggest, model, tmp_path, monkeypatch):
    # The chosen rows are in several windows.
    monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 7)
    told = suggest(table(tmp_path / "data.csv"), "--labels", *LABELS, "-n", 6)
    found = pd.read_csv(io.StringIO(told), dtype=str)
    places = chosen(model, 6)
    assert found.columns.tolist() == ["id", "text", "row"]
    assert found["row"].tolist() == [str(i + 1) for i in places]
    assert found["id"].tolist() == [f"{i:03d}" for i in places]
    assert found["text"].tolist() == [TEXTS[i] for i in places]


@pytest.mark.parametrize("named", [True, False])
def test_rows_with_a_label_are_left_out(suggest, model, tmp_path, named):
    column = "topic" if named else "label"
    data = table(tmp_path / "data.csv", **{column: SOME})
    options = ["--label-column", column] if named else []
    told = suggest(data, "--labels", *LABELS, "-n", 4, *options)
    found = pd.read_csv(io.StringIO(told))["row"] - 1
    assert found.tolist() == chosen(model, 4, SOME).tolist()
    assert (found >= 10).all()


def test_any_number_of_labels_stand_in_columns_of_their_own(suggest, model, tmp_path):
    columns = {name: [0.0 if i < 10 else None for i in range(N_ROWS)] for name in LABELS}
    columns["music"][12] = 1.0
    options = ["--multi-label", "--label-columns", *LABELS, "-n", 40]
    told = suggest(table(tmp_path / "data.csv", **columns), "--labels", *LABELS, *options)
    found = pd.read_csv(io.StringIO(told))["row"] - 1
    assert found.tolist() == [i for i in range(10, N_ROWS) if i != 12]


def test_what_was_learnt_chooses_the_next_ones(suggest, model, tmp_path):
    clf = GLiClassMultiLabelClassifier(model, LABELS, trainable="labels", random_state=0)
    clf.fit(TEXTS[:10], [[label] for label in Y[:10]]).save_pretrained(tmp_path / "learnt")
    data = table(tmp_path / "data.csv", label=SOME)
    told = suggest(data, "--model", tmp_path / "learnt", "-n", 5)
    expected = clf.suggest_rows(TEXTS, 5, [None if label is None else [label] for label in SOME])
    assert (pd.read_csv(io.StringIO(told))["row"] - 1).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("parquet", marks=pytest.mark.needs("pyarrow")),
        pytest.param("xlsx", marks=pytest.mark.needs("openpyxl")),
        "jsonl",
    ],
)
def test_other_kinds_of_tables(suggest, model, tmp_path, kind):
    rows, data = pd.DataFrame({"text": TEXTS, "row": Y}), tmp_path / f"data.{kind}"
    write = {"parquet": rows.to_parquet, "xlsx": rows.to_excel}
    if kind == "jsonl":
        rows.to_json(data, orient="records", lines=True)
    else:
        write[kind](data, index=False)
    output = tmp_path / f"next.{kind}"
    assert suggest(data, "--labels", *LABELS, "-n", 3, "--output", output) == ""
    read = {"parquet": pd.read_parquet, "xlsx": pd.read_excel}
    found = pd.read_json(output, lines=True) if kind == "jsonl" else read[kind](output)
    # A column of the table is not overwritten.
    assert found.columns.tolist() == ["text", "row", "row_2"]
    assert "the result is in 'row_2'" in suggest.said
    places = chosen(model, 3)
    assert found["row_2"].tolist() == (places + 1).tolist()
    assert found["row"].tolist() == np.asarray(Y)[places].tolist()


def test_lines_of_stdin(suggest, model, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    found = pd.read_csv(io.StringIO(suggest("-", "--labels", *LABELS, "-n", 3)))
    assert (found["row"] - 1).tolist() == chosen(model, 3).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", *LABELS, "-n", "0"], "--n-rows 0: give a number of at least 1"),
        ([], "give --labels or --labels-file"),
        (["--labels", *LABELS, "--label-column", "team"], "there is no column 'team'"),
        (["--labels", *LABELS, "--label-column", "text"], "both the texts and their labels"),
        (["--labels", *LABELS, "--label-column", "id"], "every row has a label"),
        (["--labels", *LABELS, "--output", "out.jsonl", "--escape-formulas"], "no CSV or TSV"),
        (["--labels", *LABELS, "--output", "out.md"], "unknown extension"),
    ],
)
def test_a_mistake_ends_with_one_line(suggest, tmp_path, arguments, message):
    told = suggest(table(tmp_path / "data.csv"), *arguments, status=2)
    assert message in suggest.said
    assert told == ""
    assert suggest.said.count("\n") == 1
