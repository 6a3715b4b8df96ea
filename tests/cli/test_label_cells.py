"""Labels in tables, as ``train`` and ``evaluate`` read them."""

import argparse
import gzip

import pytest

from skgliclass.cli import json_rows
from skgliclass.cli.data import add_data_options, chosen_kind, open_data, read_data
from skgliclass.cli.errors import CommandError


@pytest.fixture
def read(tmp_path):
    def read(name, content, *arguments):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        parser = argparse.ArgumentParser()
        add_data_options(parser)
        args = parser.parse_args(arguments)
        (file,) = open_data(args, str(path))
        return list(read_data(file, args, multi_label=chosen_kind(args)))

    return read


def true(examples):
    return [
        row.true_labels if isinstance(row.true_labels, dict) else list(row.true_labels)
        for row in examples
    ]


def table(extension, cells):
    """Write labels as a table of this kind, where the first row of CSV names the columns."""
    if extension == "csv":
        return "text,label\n" + "".join(f"a,{cell}\n" for cell in cells)
    rows = [f'{{"text": "a", "label": "{cell}"}}' for cell in cells]
    return "\n".join(rows) if extension == "jsonl" else f"[{', '.join(rows)}]"


@pytest.mark.parametrize("extension", ["csv", "jsonl", "json"])
def test_a_class_is_what_was_written(read, extension):
    names = ["None", "NA", "null", "01", "nan", "true", "1e5", "[A]", "N/A", "-"]
    rows = read(f"data.{extension}", table(extension, names))
    assert true(rows) == [[name] for name in names]
    assert list(rows[0].all_labels) == sorted(names)


@pytest.mark.parametrize(
    ("cell", "message"),
    [("", "no label"), ("null", None)],
)
def test_an_empty_cell_is_missing_and_a_text_null_is_not(read, cell, message):
    content = f"text,label\nnull,x\nb,{cell}\n"
    if message is None:
        assert true(read("data.csv", content)) == [["x"], ["null"]]
        return
    with pytest.raises(CommandError, match=r"row 2 has no label in column 'label' \(1 such row\)"):
        read("data.csv", content)
    # With any number of labels it is a text that has none.
    assert true(read("data.csv", content, "--multi-label")) == [["x"], []]


@pytest.mark.parametrize("row", ['{"text": "b", "label": null}', '{"text": "b"}'])
def test_what_json_leaves_out_is_missing(read, row):
    with pytest.raises(CommandError, match="row 2 has no label"):
        read("data.jsonl", '{"text": "a", "label": "x"}\n' + row)


def test_numbers_and_truths_of_json_are_classes(read):
    content = (
        '{"text": "a", "label": 1}\n{"text": "a", "label": true}\n{"text": "a", "label": 1.50}'
    )
    assert true(read("data.jsonl", content)) == [["1"], ["true"], ["1.50"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.jsonl", '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": []}'),
        ("data.json", '[{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": null}]'),
        ("data.csv", 'text,label\na,"[""x"", ""y""]"\nb,[]\n'),
        ("data.csv", "text,label\na,\"['x', 'y']\"\nb,\n"),
        ("data.csv", "text;labels\na;['x', 'y']\nb;\n"),
    ],
)
def test_lists_are_sets_of_labels(read, name, content):
    options = ["--separator", ";"] if ";" in content else []
    assert true(read(name, content, *options)) == [["x", "y"], []]


@pytest.mark.needs("pyarrow")
def test_list_columns_of_parquet_are_sets_of_labels(read, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(
        pa.table({"text": ["a", "b"], "labels": [["x", "y"], []]}), tmp_path / "data.parquet"
    )
    assert true(read("data.parquet", None)) == [["x", "y"], []]


def test_objects_are_scores(read):
    content = '{"text": "a", "label": {"x": 0.3}}\n{"text": "b", "label": {"y": 1}}'
    assert true(read("data.jsonl", content)) == [{"x": 0.3}, {"y": 1.0}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,label\na,"[""x""]"\nb,z\n', "row 2 has 'z', while other rows have lists"),
        # numpy's way of writing, which Python would read as one name.
        ("text,label\na,['x' 'y']\nb,['x']\n", "row 1 has .* write every cell as a JSON list"),
        ('text,label\na,"[""x"", null]"\n', "row 1 has an empty label"),
        ('text,label\na,"[[""x""]]"\n', "row 1 has a list of lists"),
        ('text,label\na,"{""x"": 2}"\n', "row 1 has the score 2 for 'x'"),
        ('text,label\na,"{""x"": 1, ""x"": 0}"\n', "row 1 has .* the key 'x' is there twice"),
        ('text,label\na,"{""x"": 1, "" x"": 0}"\n', "row 1 has a label twice"),
    ],
)
def test_lists_at_fault(read, content, message):
    with pytest.raises(CommandError, match=message):
        read("data.csv", content)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("{'y', 'x'}", ["y", "x"]),
        ("('x', 'y')", ["x", "y"]),
        # The ends of an interval, and a name in brackets.
        ("(18, 25)", ["(18, 25)"]),
        ("(none)", ["(none)"]),
    ],
)
def test_label_sets_as_python_writes_them(read, cell, expected):
    assert true(read("data.csv", f'text,label\na,"{cell}"\n')) == [expected]


@pytest.mark.parametrize("cell", ["['x' 'y']", "[x, y]", "[x; y]"])
def test_what_looks_like_a_list_and_is_none_is_told(read, cell):
    with pytest.warns(UserWarning, match="row 1 has .* in column 'label', which cannot be read"):
        assert true(read("data.csv", f'text,label\na,"{cell}"\nb,z\n'))[1] == ["z"]


@pytest.mark.needs("pyarrow")
def test_maps_of_parquet_are_scores(read, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.map_(pa.string(), pa.float64())
    cells = pa.array([[("x", 0.25)], [("y", 1.0), ("x", 0.5)]], kind)
    parquet.write_table(pa.table({"text": ["a", "b"], "label": cells}), tmp_path / "data.parquet")
    assert true(read("data.parquet", None)) == [{"x": 0.25}, {"y": 1.0, "x": 0.5}]
    twice = pa.array([[("x", 0.25), ("x", 0.5)]], kind)
    parquet.write_table(pa.table({"text": ["a"], "label": twice}), tmp_path / "data.parquet")
    with pytest.raises(CommandError, match="row 1 has a label twice"):
        read("data.parquet", None)


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("cells", [[b"x", b"\xff"], [[b"x"], [b"\xff"]]])
def test_labels_that_are_no_text(read, tmp_path, cells):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a", "b"], "label": cells}), tmp_path / "data.parquet")
    with pytest.raises(CommandError, match="row 2 has bytes that are no text in column 'label'"):
        read("data.parquet", None)


@pytest.mark.parametrize(
    "arguments", [["--label-column", "text"], ["--label-columns", "x", "text"]]
)
def test_texts_are_not_their_labels(read, arguments):
    with pytest.raises(CommandError, match="'text' cannot hold both the texts and their labels"):
        read("data.csv", "text,x\na,1\n", *arguments)


def test_names_with_braces(read):
    with pytest.raises(CommandError, match=r"row 1 has no label in column '\{0\}\{x\}'"):
        read("{a}.csv", "text,{0}{x}\na,\n", "--label-column", "{0}{x}")


def test_a_column_for_each_label(read):
    content = "text,x,y,z,n\na,1,0,,7\nb,false,TRUE,1.0,7\nc,0,0.5,1,7\n"
    rows = read("data.csv", content, "--label-columns", "x", "y", "z")
    assert true(rows) == [["x"], ["y", "z"], {"y": 0.5, "z": 1.0}]
    # What is empty is not annotated, so that it is no label that the row has to choose from.
    assert [list(row.all_labels) for row in rows] == [["x", "y"], ["x", "y", "z"], ["x", "y", "z"]]


def test_a_column_of_json_for_each_label(read):
    content = '{"text": "a", "x": true, "y": null}\n{"text": "b", "x": 0, "y": 1}'
    rows = read("data.jsonl", content, "--label-columns", "x", "y")
    assert [(list(row.all_labels), row.targets) for row in rows] == [
        (["x"], (1.0,)),
        (["x", "y"], (0.0, 1.0)),
    ]


@pytest.mark.parametrize(
    ("cells", "columns", "message"),
    [
        ("yes,1", ["x", "y"], "row 1 has 'yes' in column 'x'; with --label-columns a cell is 1"),
        ("2,1", ["x", "y"], "row 1 has '2' in column 'x'"),
        (",", ["x", "y"], "row 1 is empty in all of the columns of labels"),
        ("1,1", ["x", "q"], "there is no column 'q'"),
        ("1,1", ["x", "x"], "name each column once"),
    ],
)
def test_columns_at_fault(read, cells, columns, message):
    with pytest.raises(CommandError, match=message):
        read("data.csv", f"text,x,y\na,{cells}\n", "--label-columns", *columns)


def test_a_file_of_examples_is_told_by_its_keys(read):
    row = '{"text": "a", "label": "z", "all_labels": ["x", "y"], "true_labels": ["x"]}'
    assert true(read("data.jsonl", row)) == [["x"]]
    assert true(read("data.jsonl", row, "--label-column", "label")) == [["z"]]
    assert true(read("data.json", f"\ufeff[{row}]")) == [["x"]]
    assert true(read("table.json", '[{"text": "a", "label": "x"}]')) == [["x"]]


@pytest.mark.parametrize("extension", ["json", "jsonl", "jsonl.gz"])
@pytest.mark.parametrize("rest", ['"label": "x"', '"all_labels": ["x"], "true_labels": ["x"]'])
def test_every_object_is_parsed_once(read, monkeypatch, extension, rest):
    parsed, parse = [], json_rows.parse_json

    def counted(text):
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(json_rows, "parse_json", counted)
    rows = [f'{{"text": "{letter}", {rest}}}' for letter in "abc"]
    content = f"[{', '.join(rows)}]" if extension == "json" else "\n".join(rows)
    content = gzip.compress(content.encode()) if extension.endswith("gz") else content
    assert [row.text for row in read(f"data.{extension}", content)] == ["a", "b", "c"]
    assert len(parsed) == (1 if extension == "json" else 3)


def test_a_file_of_examples_in_another_encoding(read):
    row = '{"text": "é", "all_labels": ["x", "y"], "true_labels": ["x"]}'.encode("cp1252")
    with pytest.raises(CommandError, match=r"line 1 is not in utf-8 .*--encoding"):
        read("data.jsonl", row)
    assert read("data.jsonl", row, "--encoding", "cp1252")[0].text == "é"


def test_a_table_without_header(read):
    rows = read(
        "data.csv", "I like it,pos\nmeh,neg\n", "--no-header", "--text-column", "1",
        "--label-column", "2",
    )  # fmt: skip
    assert [(row.text, list(row.true_labels)) for row in rows] == [
        ("I like it", ["pos"]),
        ("meh", ["neg"]),
    ]


def test_an_option_is_for_the_files_that_it_fits(tmp_path):
    parser = argparse.ArgumentParser()
    add_data_options(parser)
    args = parser.parse_args(["--separator", ";", "--label-column", "label"])
    (tmp_path / "train.csv").write_text("text;label\na;x\n")
    (tmp_path / "held_out.jsonl").write_text('{"text": "b", "label": "x"}')
    names = [str(tmp_path / name) for name in ("train.csv", "held_out.jsonl")]
    rows = [read_data(file, args, multi_label=False) for file in open_data(args, *names)]
    assert [[row.text for row in part] for part in rows] == [["a"], ["b"]]
    with pytest.raises(CommandError, match=r"--separator is not for \.jsonl files"):
        open_data(args, names[1])


@pytest.mark.parametrize("separator", [",", "|"])
def test_sets_with_another_separator_are_told(read, separator):
    """They would be learnt as one label each, without a word."""
    cells = ["food", "service", f"food{separator} service", f"service{separator}food", "room"]
    content = "text\tlabels\n" + "".join(f"a text\t{cell}\n" for cell in cells)
    with pytest.warns(UserWarning, match=r"3 labels rather than 5\. .*--label-separator"):
        read("t.tsv", content, "--multi-label")
    rows = read("t.tsv", content, "--multi-label", "--label-separator", separator)
    assert true(rows)[2] == ["food", "service"]


def test_labels_with_commas_of_their_own_are_no_sets(read):
    content = "text\tlabels\nx\tbilling, refunds\ny\tdelivery\nz\tlogin\n"
    assert true(read("t.tsv", content, "--multi-label"))[0] == ["billing, refunds"]
