"""``skgliclass train`` on texts without labels, alone and among labelled rows."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest
from tiny import sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.cli.training_rows import StreamedRows
from skgliclass.estimators import choice, label_fit

N_ROWS = 26
TEXTS, Y = toy(N_ROWS)
# Every fourth row has no label.
SOME = [None if i % 4 == 1 else str(label) for i, label in enumerate(Y)]
WINDOWS = ["--window-rows", 7]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture
def train(model, tmp_path, capsys):
    def train(data, *arguments, status=0, output="learnt"):
        """Give the folder that was written."""
        options = ["--model", model, "--output", tmp_path / output, *arguments]
        if "--trainable" not in arguments:
            options += ["--trainable", "labels"]
        ended = main(["train", str(data), *map(str, options)])
        train.told, train.said = capsys.readouterr()
        assert ended == status, train.said
        return tmp_path / output

    return train


@pytest.fixture(scope="module")
def of_texts(model):
    """What Python learns from all texts without labels."""
    return classifier(model).fit(TEXTS).predict_proba(TEXTS)


@pytest.fixture(scope="module")
def of_some(model):
    """What Python learns from labelled rows and the others."""
    return classifier(model).fit(TEXTS, SOME).predict_proba(TEXTS)


def classifier(model):
    return GLiClassClassifier(model, LABELS, trainable="labels", random_state=0)


def assert_learnt(folder, expected):
    clf = GLiClassClassifier.from_pretrained(folder)
    assert clf.classes_.tolist() == LABELS
    np.testing.assert_allclose(clf.predict_proba(TEXTS), expected, atol=2e-4)


def write(path, columns):
    table = pd.DataFrame(columns)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind in ("csv", "tsv"):
        table.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    elif kind == "parquet":
        table.to_parquet(path, index=False)
    elif kind == "xlsx":
        table.to_excel(path, index=False)
    elif kind == "txt":
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in table["text"])
    else:
        table.to_json(path, orient="records", lines=kind == "jsonl")
    return path


SLOW = pytest.mark.slow
KINDS = [
    "csv",
    pytest.param("csv.gz", marks=SLOW),
    pytest.param("tsv", marks=SLOW),
    "jsonl",
    pytest.param("jsonl.gz", marks=SLOW),
    pytest.param("json", marks=SLOW),
    pytest.param("parquet", marks=pytest.mark.needs("pyarrow")),
    pytest.param("xlsx", marks=pytest.mark.needs("openpyxl")),
]


@pytest.mark.parametrize("kind", [*KINDS, "txt", pytest.param("txt.gz", marks=SLOW)])
def test_a_file_without_labels_is_learnt_from(train, tmp_path, of_texts, kind):
    columns = {"text": TEXTS} if kind.startswith("txt") else {"id": range(N_ROWS), "text": TEXTS}
    data = write(tmp_path / f"data.{kind}", columns)
    assert_learnt(train(data, "--labels", *LABELS), of_texts)
    assert "labelled rows     0\nunlabelled texts  26\n" in train.told


def test_it_is_what_happens_by_default(model, tmp_path, of_texts, capsys):
    data = write(tmp_path / "data.csv", {"text": TEXTS})
    options = ["--model", model, "--output", tmp_path / "learnt", "--labels", *LABELS]
    assert main(["train", str(data), *map(str, options)]) == 0
    assert_learnt(tmp_path / "learnt", of_texts)


def test_texts_come_from_stdin(train, of_texts, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    assert_learnt(train("-", "--labels", *LABELS), of_texts)


def test_texts_are_in_the_column_that_is_named(train, tmp_path, of_texts):
    data = write(tmp_path / "data.csv", {"id": range(N_ROWS), "review": TEXTS})
    assert_learnt(train(data, "--labels", *LABELS, "--text-column", "review"), of_texts)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_label_are_texts_without_labels(train, tmp_path, of_some, kind):
    data = write(tmp_path / f"data.{kind}", {"team": SOME, "text": TEXTS})
    assert_learnt(train(data, "--unlabelled-rows", "--label-column", "team"), of_some)


def test_null_in_the_training_format_is_a_text_without_labels(train, tmp_path, of_some):
    rows = [
        {"text": text, "all_labels": LABELS, "true_labels": None if label is None else [label]}
        for text, label in zip(TEXTS, SOME, strict=True)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert_learnt(train(data, "--unlabelled-rows", *WINDOWS), of_some)
    train(data, status=2, output="other")
    assert "line 2: true_labels" in train.said


IS_LABELLED = [label is not None for label in SOME]


def apart(folder, names, column="text"):
    """Write labelled rows into one file, and the others into others by turns."""
    labelled = [i for i in range(N_ROWS) if IS_LABELLED[i]]
    rows = {"label": [SOME[i] for i in labelled], column: [TEXTS[i] for i in labelled]}
    others = [text for text, is_labelled in zip(TEXTS, IS_LABELLED, strict=True) if not is_labelled]
    files = []
    for i, name in enumerate(names):
        texts = others[i :: len(names)]
        is_table = name.endswith(".csv")
        # What else a table holds, labels among it, is not read.
        beside = {"label": ["?"] * len(texts)} if is_table else {}
        files.append(write(folder / name, {column if is_table else "text": texts, **beside}))
    return write(folder / "labelled.csv", rows), files


@pytest.mark.parametrize("names", [["more.csv"], ["more.txt", "others.csv"]], ids=str)
def test_further_texts_come_from_files_of_their_own(train, tmp_path, of_some, names):
    data, files = apart(tmp_path, names, column="review")
    learnt = train(data, "--text-column", "review", "--unlabelled", *files, *WINDOWS)
    assert_learnt(learnt, of_some)
    assert f"unlabelled texts  {SOME.count(None)}\n" in train.told


def test_further_texts_come_from_stdin(train, tmp_path, of_some, monkeypatch):
    data, (texts,) = apart(tmp_path, ["more.txt"])
    monkeypatch.setattr("sys.stdin", io.StringIO(texts.read_text(encoding="utf-8")))
    assert_learnt(train(data, "--unlabelled", "-"), of_some)


@pytest.mark.filterwarnings("default:.*adds no text")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("header.csv", "text\n", "there are no rows"),
        ("empty.csv", "", "the file is empty"),
        ("empty.txt", "", "there are no rows"),
        ("lines.txt", "\n\n", "there are no rows"),
        ("empty.jsonl", "", "there are no rows"),
        ("empty.json", "[]", "there are no rows"),
    ],
)
def test_there_may_be_no_further_texts_left(train, tmp_path, of_some, name, content, said):
    data, (texts,) = apart(tmp_path, ["more.txt"])
    none = tmp_path / name
    none.write_text(content, encoding="utf-8")
    assert_learnt(train(data, "--unlabelled", none, texts), of_some)
    assert f"warning: {none}: {said}, so that --unlabelled adds no text of it\n" in train.said
    train(data, "--unlabelled", none, output="alone")
    assert "unlabelled texts  0\n" in train.told


def test_further_texts_that_cannot_be_learnt_from_are_named(train, tmp_path):
    data, (texts,) = apart(tmp_path, ["more.csv"])
    for options, message in (
        (["--unlabelled", tmp_path / "none.csv"], "none.csv"),
        (["--unlabelled", texts, "--trainable", "head"], "--trainable head learns nothing"),
        (["--unlabelled", texts, "--text-column", "body"], "there is no column 'body'"),
        (["--unlabelled", "-", "-"], "stdin (-) can be read once"),
        (["--unlabelled", write(tmp_path / "gap.csv", {"text": ["a", " "]})], "row 2 has no text"),
    ):
        learnt = train(data, *options, status=2)
        assert message in train.said
        assert train.said.count("\n") == 1
        assert not learnt.exists()


@pytest.mark.parametrize("some", [True, False], ids=["some labels", "none"])
def test_a_file_that_is_read_in_windows_teaches_the_same(
    train, tmp_path, of_some, of_texts, monkeypatch, some
):
    monkeypatch.setattr(label_fit, "_TEXTS_OF_WINDOW", 4)
    data = write(tmp_path / "data.csv", {"text": TEXTS, **({"label": SOME} if some else {})})
    learnt = train(data, "--unlabelled-rows", "--labels", *LABELS, *WINDOWS)
    assert_learnt(learnt, of_some if some else of_texts)


def test_the_rows_held_out_have_labels(train, tmp_path):
    data = write(tmp_path / "data.csv", {"text": TEXTS, "label": SOME})
    held_out = ["--validation-fraction", 0.3]
    train(data, "--unlabelled-rows", *held_out)
    n_labelled = sum(label is not None for label in SOME)
    assert f"labelled rows     {n_labelled - round(0.3 * n_labelled)}\n" in train.told
    assert "best validation" in train.told
    in_windows = train(data, "--unlabelled-rows", *held_out, *WINDOWS, output="windows")
    whole = GLiClassClassifier.from_pretrained(tmp_path / "learnt").predict_proba(TEXTS)
    assert_learnt(in_windows, whole)


def test_a_column_a_label_may_be_empty_in_all(train, model, tmp_path):
    texts, matrix = toy_indicator(N_ROWS)
    table = pd.DataFrame(matrix, columns=LABELS).astype(object)
    table.iloc[::3] = None
    # Of two rows it is known in part which labels hold.
    table.iloc[1, 0] = table.iloc[4, 2] = None
    data = write(tmp_path / "data.csv", {"text": texts, **table})
    options = ["--label-columns", *LABELS, "--multi-label"]
    learnt = train(data, *options, "--unlabelled-rows")
    y = [None if row.isna().all() else row.to_numpy(float) for _, row in table.iterrows()]
    known = [i for i, row in enumerate(y) if row is not None]
    clf = GLiClassMultiLabelClassifier(model, LABELS, trainable="labels")
    clf.fit(
        [texts[i] for i in known],
        np.asarray([y[i] for i in known]),
        unlabelled=[text for text, row in zip(texts, y, strict=True) if row is None],
    )
    found = GLiClassMultiLabelClassifier.from_pretrained(learnt)
    np.testing.assert_allclose(found.predict_proba(texts), clf.predict_proba(texts), atol=2e-4)
    train(data, *options, status=2, output="other")
    assert "row 1 is empty in all of the columns of labels" in train.said
    assert "--unlabelled-rows" in train.said


def test_an_empty_cell_of_many_labels_is_none_of_them_unless_asked(train, tmp_path):
    data = write(tmp_path / "data.csv", {"text": TEXTS, "labels": SOME})
    train(data, "--multi-label")
    assert "labelled rows     26\n" in train.told
    train(data, "--multi-label", "--unlabelled-rows", output="other")
    assert f"unlabelled texts  {SOME.count(None)}\n" in train.told


def test_a_saved_classifier_says_which_labels_there_are(train, model, tmp_path, of_texts):
    GLiClassClassifier(model, LABELS, trainable="labels").save_pretrained(tmp_path / "saved")
    data = write(tmp_path / "data.csv", {"text": TEXTS})
    arguments = ["train", data, "--model", tmp_path / "saved", "--output", tmp_path / "learnt"]
    assert main(list(map(str, arguments))) == 0
    assert_learnt(tmp_path / "learnt", of_texts)


def test_classifying_gives_what_python_gives(train, tmp_path, of_texts, capsys):
    learnt = train(write(tmp_path / "data.csv", {"text": TEXTS}), "--labels", *LABELS)
    output = tmp_path / "out.csv"
    data = str(tmp_path / "data.csv")
    assert main(["classify", data, "--model", str(learnt), "--output", str(output)]) == 0
    assert pd.read_csv(output)["label"].tolist() == [LABELS[k] for k in of_texts.argmax(axis=1)]


# What is at fault.


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        ({"text": TEXTS}, ["--labels", *LABELS, "--trainable", "all"], "--trainable all learns"),
        ({"text": TEXTS}, [], "or give --labels to learn from texts alone; columns: text"),
        ({"text": TEXTS, "label": [None] * N_ROWS}, [], "row 1 has no label in column 'label'"),
        (
            {"text": TEXTS, "label": [None] * N_ROWS},
            ["--unlabelled-rows"],
            "nothing says what to choose from; give --labels",
        ),
        (
            {"text": TEXTS, "label": SOME},
            ["--labels", *LABELS],
            "row 2 has no label in column 'label' (7 such rows); texts without labels need "
            "--unlabelled-rows",
        ),
        (
            {"text": TEXTS, "label": SOME},
            ["--unlabelled-rows", "--trainable", "head"],
            "7 of 26 rows have no label, and --trainable head learns nothing from such texts; give "
            "--trainable auto",
        ),
        (
            {"text": TEXTS},
            ["--labels", *LABELS, "--label-column", "team"],
            "there is no column 'team'",
        ),
        (
            {"text": TEXTS},
            ["--labels", *LABELS, "--validation-fraction", "0.2"],
            "--validation-fraction 0.2: give a number",
        ),
        (
            {"text": TEXTS},
            ["--labels", *LABELS, "--checkpoint-folder", "run"],
            "--checkpoint-folder has no effect without another --trainable than labels",
        ),
        (
            {"text": TEXTS},
            ["--labels", *LABELS, "--resume"],
            "--resume needs --checkpoint-folder",
        ),
        ({"text": TEXTS}, ["--labels", *LABELS, "--max-epochs", "3"], "--max-epochs has no effect"),
        (
            {"text": TEXTS},
            ["--labels", *LABELS, "--join-processes"],
            "--join-processes has no effect",
        ),
        ({"text": [*TEXTS[:5], " "]}, ["--labels", *LABELS], "row 6 has no text"),
        (
            {"text": TEXTS, "label": Y},
            ["--labels", *LABELS, "--other", "music", "--validation-fraction", ".3"],
            "other='music' is one of the classes",
        ),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_one_line(train, tmp_path, columns, arguments, message):
    data = write(tmp_path / "data.csv", columns)
    learnt = train(data, *arguments, status=2)
    assert message in train.said
    assert train.said.startswith("skgliclass: ")
    assert train.said.count("\n") == 1
    assert not learnt.exists()


def test_what_judges_has_labels(train, tmp_path):
    data = write(tmp_path / "data.csv", {"text": TEXTS, "label": SOME})
    other = write(tmp_path / "other.csv", {"text": TEXTS})
    train(data, "--unlabelled-rows", "--validation", data, status=2)
    assert "row 2 has no label" in train.said
    train(data, "--unlabelled-rows", "--validation", other, status=2)
    assert "other.csv: choose the labels with --label-column" in train.said


def test_a_temperature_needs_no_held_out_file(train, model, tmp_path):
    data = write(tmp_path / "data.csv", {"text": TEXTS, "label": Y})
    folder = train(data, "--labels", *LABELS, "--calibrate")
    expected = classifier(model).set_params(calibrate=True).fit(TEXTS, Y)
    found = GLiClassClassifier.from_pretrained(folder)
    assert found.temperature_ == pytest.approx(expected.temperature_, rel=1e-4)
    assert found.temperature_ != 1


@pytest.mark.filterwarnings("default::UserWarning")
def test_texts_that_are_cut_are_counted_once_for_all_windows(train, tmp_path):
    texts = [f"{text} " * (30 if i % 5 else 1) for i, text in enumerate(TEXTS)]
    write(tmp_path / "data.csv", {"text": texts, "label": SOME})
    n_cut = sum(i % 5 != 0 for i in range(N_ROWS))
    train(
        tmp_path / "data.csv",
        "--labels",
        *LABELS,
        "--unlabelled-rows",
        "--max-length",
        32,
        *WINDOWS,
    )
    assert train.said.count("did not fit") == 1
    assert f"{n_cut} of {N_ROWS} texts did not fit" in train.said


@pytest.mark.filterwarnings("default:.*sorted by their labels")
def test_what_is_learnt_is_chosen_by_all_windows_which_are_read_once(train, tmp_path, monkeypatch):
    order = np.argsort(Y, kind="stable")
    write(tmp_path / "data.csv", {"text": [TEXTS[i] for i in order], "label": Y[order]})
    # By its first window alone, in which one class has all rows, it had three times as many each.
    monkeypatch.setattr(choice, "FEW_ROWS_A_CLASS", 10)
    read, windows = [], StreamedRows.windows
    monkeypatch.setattr(
        StreamedRows, "windows", lambda rows, first=0: read.append(first) or windows(rows, first)
    )
    train(tmp_path / "data.csv", "--trainable", "auto", *WINDOWS)
    assert "changed           labels" in train.told
    assert read == [0]
