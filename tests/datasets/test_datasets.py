import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from tiny import wrapped_tokenizer

from skgliclass.datasets import (
    Example,
    PromptExample,
    from_arrays,
    is_single_label,
    read_examples,
    to_arrays,
    write_examples,
)

LABELS = ["travel", "sport", "music"]
ROWS = [
    Example("One day I will see the world!", LABELS, ["travel"]),
    Example(
        "naïve café\u2028你好 🎵\n<<LABEL>>", ["music", "sport"], {"music": 0.1 + 0.2, "sport": 1}
    ),
    Example("", ["a"], []),
    Example(
        "the lazy dog",
        ["dog", "fox"],
        ["dog", "fox"],
        prompt="Which animals? ",
        examples=[PromptExample("quick fox", ["fox"]), PromptExample("none", [])],
        weight=0.25,
        extra={"_diversity": {"overall_diversity": 0.5}, "source": None},
    ),
]
EXTENSIONS = ["json", "jsonl", "json.gz", "jsonl.gz"]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_is_written_is_read_again_exactly(tmp_path, extension):
    path = tmp_path / f"data.{extension}"
    write_examples(path, ROWS)
    assert read_examples(path) == ROWS
    raw = path.read_bytes()
    write_examples(path, read_examples(str(path)))
    assert path.read_bytes() == raw


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_no_rows_are_a_file_too(tmp_path, extension):
    path = tmp_path / f"data.{extension}"
    write_examples(path, [])
    assert read_examples(path) == []


def test_the_file_is_what_the_format_says(tmp_path):
    write_examples(tmp_path / "data.json", ROWS)
    assert json.loads((tmp_path / "data.json").read_text("utf-8")) == [
        {"text": ROWS[0].text, "all_labels": LABELS, "true_labels": ["travel"]},
        {
            "text": ROWS[1].text,
            "all_labels": ["music", "sport"],
            "true_labels": {"music": 0.1 + 0.2, "sport": 1},
        },
        {"text": "", "all_labels": ["a"], "true_labels": []},
        {
            "text": "the lazy dog",
            "all_labels": ["dog", "fox"],
            "true_labels": ["dog", "fox"],
            "prompt": "Which animals? ",
            "examples": [{"text": "quick fox", "labels": ["fox"]}, {"text": "none", "labels": []}],
            "weight": 0.25,
            "_diversity": {"overall_diversity": 0.5},
            "source": None,
        },
    ]


def test_other_writers_habits_are_understood(tmp_path):
    path = tmp_path / "data.JSONL"
    rows = [
        {"text": "a", "all_labels": ["x"], "true_labels": ["x"], "prompt": None, "weight": None},
        {
            "text": "b",
            "all_labels": ["x"],
            "true_labels": {"x": 1},
            "examples": [
                {"text": "c", "true_labels": ["x"]},
                {"text": "d", "true_labels": {"x": 0.5}},
            ],
        },
    ]
    text = "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in rows)
    path.write_bytes(text.encode())
    assert read_examples(path) == [
        Example("a", ["x"], ["x"]),
        Example(
            "b",
            ["x"],
            {"x": 1.0},
            examples=[PromptExample("c", ["x"]), PromptExample("d", ["x"])],
        ),
    ]


def row(**changes):
    return {"text": "a", "all_labels": ["x", "y"], "true_labels": ["x"], **changes}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("text", r"a row is an object with text and labels, found 'text' \(str\)"),
        ({"text": "a", "labels": []}, "all_labels is missing; the row has the fields text, labels"),
        (row(text=None), r"text is None \(NoneType\); it must be a text"),
        (row(text="\ud83d"), "text is not valid Unicode"),
        (row(all_labels="x"), r"all_labels is 'x' \(str\); it must be a list"),
        (row(all_labels=[]), "all_labels is empty"),
        (row(all_labels=["x", 3]), r"all_labels\[1\] is 3 \(int\); it must be a text"),
        (row(all_labels=["x", " "]), r"all_labels\[1\] is empty"),
        (row(all_labels=["x", "y", "x"]), "all_labels repeats the label 'x'"),
        (row(true_labels="x"), r"true_labels is 'x' \(str\); it must be a list"),
        (row(true_labels=["z"]), r"true_labels names 'z', .* \('x', 'y'\)"),
        (row(true_labels={"z": 1}), "true_labels names 'z'"),
        (row(true_labels={"y": 1.5}), r"true_labels\['y'\] is 1.5 \(float\).* between 0 and 1"),
        (row(true_labels={"y": True}), r"true_labels\['y'\] is True"),
        (row(true_labels={"y": math.nan}), r"true_labels\['y'\] is nan"),
        (row(weight=-1), r"weight is -1 \(int\).* at least 0"),
        (row(weight=math.inf), "weight is inf"),
        (row(weight="2"), "weight is '2'"),
        (row(prompt=3), r"prompt is 3 \(int\); it must be a text"),
        (row(examples={"text": "b"}), "examples is .* must be a list of objects"),
        (row(examples=[row(), {"text": "b"}]), r"examples\[1\] is .* must have text and labels"),
        (row(examples=[{"text": 1, "labels": []}]), r"examples\[0\]\.text is 1"),
        (row(examples=[{"text": "b", "labels": "x"}]), r"examples\[0\]\.labels is 'x'"),
    ],
)
@pytest.mark.parametrize("extension", ["json", "jsonl.gz"])
def test_a_bad_row_is_named_with_its_field(tmp_path, extension, bad, message):
    path = tmp_path / f"data.{extension}"
    rows = [json.dumps(row()), json.dumps(bad)]
    if extension == "json":
        path.write_text(f"[{','.join(rows)}]")
        place = "row 2"
    else:
        path.write_bytes(gzip.compress("\n\n".join(rows).encode()))
        place = "line 3"
    with pytest.raises(ValueError, match=message) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}, {place}: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.txt", b"", "unknown extension; use one of .json, .jsonl"),
        ("data", b"", "unknown extension"),
        ("data.json", b'{"text": "a"}', "holds a list of rows, found"),
        ("data.json", b'{"text": "a"}\n{"text": "b"}', "one object a line is the .jsonl format"),
        ("data.jsonl", b'{"text": "a"\n', "line 1: not valid JSON"),
        ("data.jsonl", b'{"text": "a", "text": "b"}', "line 1: .* the key 'text' is there twice"),
        ("data.jsonl", b'{"text": "\xff"}', "cannot be read: 'utf-8' codec"),
        ("data.jsonl.gz", b"[]", "cannot be read: Not a gzipped file"),
        (
            "data.jsonl.gz",
            gzip.compress(b"[]" * 99, mtime=0)[:-9],
            "cannot be read: Compressed file ended",
        ),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_examples(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        read_examples(tmp_path / "nowhere.json")


def test_what_cannot_be_written_leaves_the_file_alone(tmp_path):
    path = tmp_path / "data.jsonl"
    write_examples(path, ROWS)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_examples(path, [ROWS[0], Example("a", ["x"], ["x"], extra={"when": {1}})])
    assert read_examples(path) == ROWS
    with pytest.raises(ValueError, match="extra holds 'text', which is a field of its own"):
        Example("a", ["x"], ["x"], extra={"text": "b"})


def test_the_callers_objects_are_copied():
    labels, scores = ["x", "y"], {"x": 0.5}
    example = Example("a", labels, scores)
    labels.append("z")
    scores["x"] = 7
    assert example.targets == (0.5, 0.0)


# The reference package.


@pytest.fixture(scope="module")
def reference_dataset():
    pytest.importorskip("gliclass")
    from gliclass.data_processing import AugmentationConfig, GLiClassDataset

    def make(path, problem_type="multi_label_classification"):
        return GLiClassDataset(
            json.loads(path.read_text("utf-8")),
            wrapped_tokenizer("bert"),
            AugmentationConfig(enabled=False),
            problem_type=problem_type,
            prompt_first=True,
            shuffle_labels=False,
        )

    return make


def test_the_reference_package_reads_what_is_written(tmp_path, reference_dataset):
    path = tmp_path / "data.json"
    write_examples(path, ROWS)
    dataset = reference_dataset(path)
    assert len(dataset) == len(ROWS)
    for item, example in zip(dataset, ROWS, strict=True):
        assert item["labels_text"] == list(example.all_labels)
        assert item["labels"].tolist() == pytest.approx(example.targets)
    assert dataset.get_diversity() == [0.5] * 4
    item = dataset._data[3]
    assert dataset.prepare_prompt(item)[-1] == "Which animals? "
    shown = dataset.format_examples(item)
    assert "quick fox \nLabels:\n fox" in shown or "none \nLabels:\n " in shown


def test_the_reference_package_reads_single_labels(tmp_path, reference_dataset):
    path = tmp_path / "data.json"
    write_examples(path, from_arrays(["a", "b", "c"], ["sport", "music", "sport"]))
    dataset = reference_dataset(path, "single_label_classification")
    assert [int(dataset[i]["labels"]) for i in range(3)] == [1, 0, 1]


# To and from arrays.


def test_single_labels_become_a_vector():
    rows = [
        Example("a", LABELS, ["sport"]),
        Example("b", LABELS[::-1], {"travel": 1.0, "music": 0.0}, weight=2),
    ]
    assert is_single_label(rows)
    X, y, labels, weight = to_arrays(rows)
    assert X == ["a", "b"]
    assert y.tolist() == ["sport", "travel"]
    assert labels == LABELS
    assert weight.tolist() == [1.0, 2.0]
    again = from_arrays(X, y, labels=labels, sample_weight=weight)
    assert [set(row.all_labels) for row in again] == [set(LABELS)] * 2
    assert [(row.true_labels, row.weight) for row in again] == [(("sport",), 1), (("travel",), 2)]


def test_many_labels_become_a_matrix_in_the_order_of_the_first_row():
    rows = [
        Example("a", LABELS, ["sport", "travel"]),
        Example("b", ["music", "travel", "sport"], {"travel": 0.25}),
        Example("c", LABELS, []),
    ]
    assert not is_single_label(rows)
    X, y, labels, weight = to_arrays(rows)
    assert labels == LABELS
    np.testing.assert_array_equal(y, [[1, 1, 0], [0.25, 0, 0], [0, 0, 0]])
    assert weight is None
    again = from_arrays(X, y, labels=labels, multi_label=True)
    assert [row.targets for row in again] == [tuple(map(float, values)) for values in y]
    assert again[0].true_labels == ("travel", "sport")
    assert again[1].true_labels == {"travel": 0.25}


@pytest.mark.parametrize(
    "targets", [[], ["a", "b"], {"a": 0.5}, {"a": 1, "b": 0.2}, {"a": 0.5, "b": 0.5}]
)
def test_what_is_not_one_certain_label(targets):
    rows = [Example("x", ["a", "b"], ["a"]), Example("y", ["a", "b"], targets)]
    assert not is_single_label(rows)
    with pytest.raises(ValueError, match=r"examples\[1\] does not have exactly one true label"):
        to_arrays(rows, multi_label=False)


def test_arrays_fit_the_classifiers():
    from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

    rows = from_arrays(pd.Series(["a", "b"]), ["S", "T"], labels={"T": "travel", "S": "sport"})
    X, y, labels, weight = to_arrays(rows)
    clf = GLiClassClassifier(labels=labels, max_epochs=0).fit(X, y, weight)
    assert clf.classes_.tolist() == ["sport", "travel"]
    X, y, labels, weight = to_arrays(rows, multi_label=True)
    clf = GLiClassMultiLabelClassifier(labels=labels, max_epochs=0).fit(X, y, weight)
    assert clf.classes_.tolist() == labels


def test_rows_with_label_sets_of_their_own_are_no_arrays():
    with pytest.raises(
        ValueError, match=r"examples\[1\] has another label set .*it lacks 'travel'"
    ):
        to_arrays([ROWS[0], ROWS[1]])
    with pytest.raises(ValueError, match="no examples"):
        to_arrays([])
    with pytest.raises(ValueError, match="2 texts, but 1 rows of y"):
        from_arrays(["a", "b"], ["x"])


def test_soft_scores_come_back_as_they_were_written():
    y = [{"sport": 0.7, "music": 0.1}, ["music"], {}]
    rows = from_arrays(["a", "b", "c"], y, multi_label=True, sample_weight=[0.1, 1, 2])
    assert [row.true_labels for row in rows] == [{"music": 0.1, "sport": 0.7}, ("music",), ()]
    assert [row.weight for row in rows] == [0.1, 1, 2]
    X, matrix, labels, weight = to_arrays(rows)
    again = from_arrays(X, matrix, labels=labels, multi_label=True, sample_weight=weight)
    assert again == rows


def test_what_is_not_annotated_is_not_offered_and_comes_back_as_nan(tmp_path):
    y = np.array([[1, np.nan, 0], [0.5, 1, np.nan], [0, 0, 0]], dtype=np.float32)
    rows = from_arrays(["a", "b", "c"], y, labels=LABELS, multi_label=True)
    assert [row.all_labels for row in rows] == [
        ("travel", "music"),
        ("travel", "sport"),
        tuple(LABELS),
    ]
    write_examples(tmp_path / "rows.jsonl", rows)
    assert read_examples(tmp_path / "rows.jsonl") == rows
    arrays = to_arrays(rows, multi_label=True)
    frame = pd.DataFrame(arrays.y, columns=arrays.labels)
    np.testing.assert_array_equal(frame[LABELS], y)
    with pytest.raises(ValueError, match="with multi_label=True y is NaN"):
        to_arrays(rows)


@pytest.mark.parametrize(
    ("y", "weight", "message"),
    [
        ([[1, np.nan], [np.nan, np.nan]], None, r"y\[1\] is NaN for every label"),
        ([[1, 0], [0, 1]], [1, -1], r"sample_weight\[1\] is -1"),
        ([[1, 0], [0, 1]], [1], "sample_weight has shape"),
    ],
)
def test_rows_that_the_format_cannot_hold(y, weight, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(
            ["a", "b"], np.array(y), labels=["x", "y"], multi_label=True, sample_weight=weight
        )
