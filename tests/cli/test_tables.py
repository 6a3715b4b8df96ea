"""What goes in comes out: tables as ``classify`` reads and writes them, with made-up scores."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from skgliclass import GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.cli import classify as command
from skgliclass.cli import tables
from skgliclass.estimators.scores import Alternatives, Scores
from skgliclass.exceptions import TruncationWarning

LABELS = ["even", "odd"]


class Stub:
    """Tells whether a text has an even number of characters."""

    classes_ = np.asarray(LABELS, dtype=object)

    def __init__(self):
        self.texts, self.windows = [], []

    def set_params(self, **parameters):
        return self

    def _scores(self, texts, *, chooses):
        assert chooses
        among = Alternatives(self.classes_, multi_label=False)
        return Scores(np.log(self.predict_proba(texts)).astype(np.float32), among)

    def predict_top(self, texts, k):
        return self._scores(texts, chooses=True).ranking(k, None)

    def predict_proba(self, texts):
        self.texts += texts
        self.windows.append(len(texts))
        is_odd = np.asarray([len(text) % 2 for text in texts])[:, None]
        return np.hstack([1 - is_odd, is_odd]) * 0.8 + 0.1


class Program:
    """The command, with what the model was shown."""

    def __init__(self, folder, capsys, monkeypatch):
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch
        self.stub = Stub()
        monkeypatch.setattr(command, "make_classifier", lambda *_, **__: self.stub)

    def file(self, name, content):
        content = content.encode() if isinstance(content, str) else content
        path = self.folder / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return str(path)

    def stdin(self, content):
        self.monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    def run(self, *arguments):
        self.stub.texts.clear()
        status = main(["classify", *map(str, arguments), "--labels", *LABELS])
        captured = self.capsys.readouterr()
        self.out, self.err = captured.out, captured.err
        return status

    def fails(self, *arguments):
        """Run what is refused before the model sees anything; give the message."""
        assert self.run(*arguments) == 2
        assert self.out == ""
        assert not self.stub.texts
        assert self.err.count("\n") == 1
        return self.err.removeprefix("skgliclass: ").rstrip("\n")

    def convert(self, name, content, output, *arguments):
        """Classify a file into another; give what is in that."""
        target = self.folder / output
        assert self.run(self.file(name, content), "--output", target, *arguments) == 0
        return gzip.open(target).read() if output.endswith(".gz") else target.read_bytes()


@pytest.fixture
def program(tmp_path, capsys, monkeypatch):
    return Program(tmp_path, capsys, monkeypatch)


# Cells are the text that was written.


@pytest.mark.parametrize(
    ("extension", "separator"), [("csv", ","), ("tsv", "\t"), ("csv.gz", ","), ("tsv.gz", "\t")]
)
def test_cells_come_back_as_they_were(program, extension, separator):
    cells = ["00123", "007", "1e5", "NA", "", "null", "20240101", "1.10", "True", " a ", "-0", "∞"]
    lines = [["id", "text", "x"], *([cell, "NA", cell] for cell in cells)]
    content = "".join(separator.join(line) + "\n" for line in lines)
    written = program.convert(f"in.{extension}", content, f"out.{extension}").decode()
    assert (
        written.replace(f"{separator}even{separator}0.9", "").splitlines()[1:]
        == (content.splitlines()[1:])
    )
    assert set(program.stub.texts) == {"NA"}


def test_what_stands_between_quotes_comes_back(program):
    cells = ["a, b", 'say "x"', "a\nb", "a\r\nb", "a\rb", "a\u2028b", "a\x0bb\x0cc\x85d", "'"]
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["text", "x"], *([cell, cell] for cell in cells)])
    written = program.convert("in.csv", file.getvalue(), "out.csv").decode()
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert [row["x"] for row in rows] == cells
    assert program.stub.texts == cells


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end(program, end):
    content = end.join(["text,x", "a,1", "b,2"])
    assert program.convert("in.csv", content, "out.csv") == (
        b"text,x,label,score\na,1,odd,0.9\nb,2,odd,0.9\n"
    )


def test_values_of_json_keep_their_type_and_spelling(program):
    row = (
        '{"text": "ab", "i": 1, "f": 1.10, "e": 1e5, "n": null, "l": [1, {"a": 2.50}], '
        '"big": 123456789012345678901234567890, "s": "00123", "d": "2024-01-01", "b": true, '
        '"z": -0, "u": "\\ud800", "é": "é\u2028"'
    )
    after = ', "label": "even", "score": 0.9}'
    assert program.convert("in.jsonl", row + "}\n", "out.jsonl").decode() == f"{row}{after}\n"
    assert program.convert("in.json", f"[{row}}}]", "out.json").decode() == f"[\n{row}{after}\n]\n"
    assert program.convert("in.jsonl.gz", row + "}\n", "out.json.gz").decode() == (
        f"[\n{row}{after}\n]\n"
    )


def test_objects_with_different_keys(program):
    content = '{"text": "a", "i": 1}\n\n{"text": "b", "j": [1, "x"]}\n'
    assert program.convert("in.jsonl", content, "out.jsonl").decode().splitlines() == [
        '{"text": "a", "i": 1, "label": "odd", "score": 0.9}',
        '{"text": "b", "j": [1, "x"], "label": "odd", "score": 0.9}',
    ]
    assert program.convert("in.jsonl", content, "out.csv").decode().splitlines() == [
        "text,i,j,label,score",
        "a,1,,odd,0.9",
        'b,,"[1, ""x""]",odd,0.9',
    ]


@pytest.mark.parametrize(
    "content", ['{"text": {"0": "a", "1": "b"}, "x": {"0": 1, "1": 2}}', '{"text": ["a", "b"]}']
)
def test_json_by_columns(program, content):
    rows = json.loads(program.convert("in.json", content, "out.json"))
    assert [row["text"] for row in rows] == ["a", "b"]


def test_columns_of_json_go_together_by_the_names_of_their_rows(program):
    content = '{"text": {"0": "a", "1": "b"}, "x": {"1": "of b", "0": "of a"}}'
    rows = json.loads(program.convert("in.json", content, "out.json"))
    assert [(row["text"], row["x"]) for row in rows] == [("a", "of a"), ("b", "of b")]


def test_blanks_at_the_ends_of_names_are_shown(program):
    assert "columns: id, ' text', ''" in program.fails(program.file("in.csv", "id, text,\n1,a,\n"))


@pytest.mark.filterwarnings("default:.* is a folder")
def test_a_folder_is_told(program):
    assert program.run(program.folder) == 0
    assert "is a folder, whose name is classified as a text" in program.err


def test_a_column_needs_a_name(program):
    assert "--label-column-out is empty" in program.fails("a", "--label-column-out", " ")


@pytest.mark.needs("pyarrow")
def test_parquet_keeps_its_types(program):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "text": pa.array(["a", "bc"]).dictionary_encode(),
            "time": pa.array([1, None], pa.timestamp("ns", "UTC")),
            "small": pa.array([1, None], pa.int8()),
            "list": [[1], None],
        }
    )
    source, target = program.folder / "in.parquet", program.folder / "out.parquet"
    parquet.write_table(table, source)
    assert program.run(source, "--output", target) == 0
    written = parquet.read_table(target)
    assert written.select(table.column_names).equals(table)
    assert written["label"].to_pylist() == ["odd", "even"]
    assert program.run(source) == 0
    assert program.out.splitlines()[1] == "a,1970-01-01T00:00:00.000000001+00:00,1,[1],odd,0.9"


@pytest.mark.needs("pyarrow")
def test_a_parquet_file_of_other_rows(program):
    from pyarrow import parquet

    program.monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 1)
    content = '{"text": "a", "i": null}\n{"text": "b", "i": 1}\n{"text": "c", "i": 2.5, "j": [1]}\n'
    program.convert("in.jsonl", content, "out.parquet")
    rows = parquet.read_table(program.folder / "out.parquet").to_pylist()
    assert [(row["i"], row["j"]) for row in rows] == [(None, None), (1, None), (2.5, [1])]
    program.convert("in.csv", "text,id\na,007\n", "out.parquet")
    assert parquet.read_table(program.folder / "out.parquet")["id"].to_pylist() == ["007"]
    mixed = program.file("mixed.jsonl", '{"text": "a", "i": 1}\n{"text": "b", "i": "x"}\n')
    message = program.fails(mixed, "--output", program.folder / "new.parquet")
    assert "a column has one type" in message
    assert not list(program.folder.glob("*new*"))


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize(
    "cells",
    [
        ["1e400"],
        ["9" * 5000],
        ["[1e400]"],
        ["{}"],
        # In windows of their own, each of which has one type.
        ["9007199254740993", *["1"] * 1100, "2.5"],
    ],
)
def test_what_a_parquet_file_cannot_hold(program, cells):
    source = program.file("in.jsonl", "".join(f'{{"text": "a", "x": {cell}}}\n' for cell in cells))
    assert program.run(source, "--output", program.folder / "out.parquet") == 2
    assert "cannot become a Parquet file" in program.err
    assert "write .jsonl" in program.err
    assert [path.name for path in program.folder.iterdir()] == ["in.jsonl"]


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("output", ["out.csv", "out.jsonl", "out.json"])
def test_bytes_that_are_no_text_are_told(program, output):
    import pyarrow as pa
    from pyarrow import parquet

    source = program.folder / "in.parquet"
    parquet.write_table(pa.table({"text": ["a", "b"], "x": [b"x", b"\xff"]}), source)
    assert program.run(source, "--output", program.folder / output) == 2
    assert "row 2 has bytes that are no text" in program.err


@pytest.mark.needs("openpyxl")
def test_excel_files(program):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["id", "text", "n"], ["007", "a", 5], [None, None, None], [True, 12.5, None]):
        book.active.append(row)
    source, target = program.folder / "in.xlsx", program.folder / "out.xlsx"
    book.save(source)
    assert program.run(source) == 0
    assert program.out == "id,text,n,label,score\n007,a,5,odd,0.9\ntrue,12.5,,even,0.9\n"
    content = "text,f\nab,=1+1\nc,#N/A\nd,007\n"
    assert program.run(program.file("in.csv", content), "--output", target) == 0
    cells = [
        [(cell.value, cell.data_type) for cell in row]
        for row in openpyxl.load_workbook(target).active.iter_rows(min_row=2, max_col=2)
    ]
    assert [row[1] for row in cells] == [("=1+1", "s"), ("#N/A", "s"), ("007", "s")]
    assert program.run(target) == 0
    assert program.out.splitlines()[1] == "ab,=1+1,even,0.9,even,0.9"


@pytest.mark.needs("openpyxl")
@pytest.mark.parametrize("cell", [f'"{"x" * 40_000}"', "1e400", "Infinity", "9" * 400])
def test_what_an_excel_file_cannot_hold(program, cell):
    source = program.file("in.jsonl", f'{{"text": "a", "x": {cell}}}\n')
    assert program.run(source, "--output", program.folder / "out.xlsx") == 2
    assert "row 1 cannot be written to an .xlsx file" in program.err
    assert [path.name for path in program.folder.iterdir()] == ["in.jsonl"]


@pytest.mark.needs("openpyxl")
def test_any_text_comes_back_from_an_excel_file(program):
    """Some characters XML cannot hold, or makes others of, without a word."""
    cells = ["a\rb", "a\r\nb", "\x01\x1f\t\n", "\uffff", "\ud800", "_x0041_", "_x005F_x0041_", "_x"]
    rows = [{"text": "a", "x": cell} for cell in cells]
    source = program.file("in.jsonl", "\n".join(map(json.dumps, rows)))
    target = program.folder / "out.xlsx"
    assert program.run(source, "--output", target) == 0
    assert program.run(target, "--output", program.folder / "back.jsonl") == 0
    lines = (program.folder / "back.jsonl").read_text().splitlines()
    assert [json.loads(line)["x"] for line in lines] == cells


@pytest.mark.needs("openpyxl")
@pytest.mark.filterwarnings("default:.* formulas have no values")
def test_formulas_without_values_are_told(program):
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["text", "n"], ["a", 1], ["b", "=1+1"]):
        book.active.append(row)
    source = program.folder / "in.xlsx"
    book.save(source)
    assert program.run(source) == 0
    assert "1 formulas have no values, the first in B3" in program.err
    # As a spreadsheet saves them: with the value, which may be an empty text.
    archive = {}
    with zipfile.ZipFile(source) as file:
        archive = {name: file.read(name) for name in file.namelist()}
    sheet = archive["xl/worksheets/sheet1.xml"]
    for value in (b"<v>2</v>", b"<v></v>"):
        kind = b"" if b"2" in value else b' t="str"'
        cell = re.sub(
            rb'<c r="B3"[^>]*>.*?</c>', b'<c r="B3"%s><f>1+1</f>%s</c>' % (kind, value), sheet
        )
        with zipfile.ZipFile(source, "w") as file:
            for name, content in {**archive, "xl/worksheets/sheet1.xml": cell}.items():
                file.writestr(name, content)
        assert program.run(source) == 0
        assert program.err == ""
        assert program.out.splitlines()[2].split(",")[1] == value[3:-4].decode()


@pytest.mark.needs("openpyxl")
def test_a_damaged_excel_file(program):
    import openpyxl

    book = openpyxl.Workbook()
    for i in range(200):
        book.active.append([f"text {i * i}"])
    path = program.folder / "in.xlsx"
    book.save(path)
    content = bytearray(path.read_bytes())
    sheet = content.index(b"xl/worksheets/sheet1.xml") + 100
    content[sheet : sheet + 200] = bytes(200)
    path.write_bytes(content)
    assert "is damaged, or no .xlsx file" in program.fails(path)


def test_excel_files_need_an_extra(program):
    program.monkeypatch.setitem(sys.modules, "openpyxl", None)
    message = program.fails("a", "--output", program.folder / "out.xlsx")
    assert "pip install openpyxl" in message


# Rows.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\nsport,1,\nart,2,\n", "line 2 has 3 fields, but the first line has 2 (text, n)"),
        ('text,n\n"a\nb",1\nart\n', "line 4 has 1 field, but the first line has 2"),
        ("text,n\na,b,1\n", "put a field that holds ',' in double quotes"),
        ('text,n\nok,1\n"a,1\nb,2\n', "line 3: a quote is opened in this row and never closed"),
        ('text,n\n"a"b,1\n', "line 2: ',' expected after '\"'"),
        ("text,n\na\0b,1\n", "line 2 holds a NUL character; remove it"),
        ("text,text\na,1\n", "there are 2 columns 'text'"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("text,n\n", "there are no rows"),
        ("text\na\n\nb\n", "row 2 has no text in column 'text' (1 such row)"),
        ("text,n\na,1\n,2\n  ,3\n", "row 2 has no text in column 'text' (2 such rows)"),
    ],
)
def test_rows_at_fault_are_named(program, content, message):
    assert message in program.fails(program.file("in.csv", content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", '{"text": "a", "text": "b"}\n', "line 1: not valid JSON: the key 'text'"),
        ("in.jsonl", '{"text": "a"}\n{"text":\n', "line 2: not valid JSON"),
        ("in.jsonl", '["a"]\n', "line 1: a row is an object with a text, found ['a']"),
        ("in.jsonl", '{"text": "a"}\n{"text": null}\n{"x": 1}\n', "row 2 has no text in column"),
        ("in.jsonl", '{"text": ["a"]}\n', "row 1 has ['a'] where its text should be"),
        ("in.jsonl", '{"text": "\\ud800"}\n', "row 1 is not valid Unicode"),
        ("in.jsonl", "", "there are no rows"),
        ("in.json", "[]", "there are no rows"),
        ("in.json", '{"text": "a"}', "holds a list of rows, found an object with the keys text"),
        ("in.json", '{"text": "a"}\n{"text": "b"}', "one object a line is the .jsonl format"),
        ("in.txt", "a\n\nb\n", "line 2 is blank (1 such line)"),
        ("in.parquet", "junk", "cannot be read"),
        ("in.xlsx", "junk", "is damaged, or no .xlsx file"),
        ("in.csv", gzip.compress(b"text\na\n", mtime=0), "it is compressed; add .gz to its name"),
    ],
)
def test_other_files_at_fault(program, name, content, message):
    assert message in program.fails(program.file(name, content))


def test_a_damaged_archive(program):
    path = program.folder / "in.csv.gz"
    path.write_bytes(gzip.compress(b"text,x\n" + b"a,1\n" * 9999)[:-9])
    assert "cannot be decompressed" in program.fails(path)


def test_blank_lines_between_rows_are_none(program):
    content = "id,text\n\n1,a\n\n2,b\n\n\n"
    assert program.convert("in.csv", content, "out.csv").count(b"\n") == 3


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u2003"])
def test_blank_texts_are_treated_alike(program, blank):
    assert "row 2 has no text" in program.fails(program.file("in.csv", f'text\na\n"{blank}"\nb\n'))
    assert "line 2 is blank" in program.fails(program.file("in.txt", f"a\n{blank}\nb\n"))
    program.stdin(f"a\n{blank}\nb\n".encode())
    assert "stdin: line 2 is blank (1 such line)" in program.fails("-")
    assert "text 2 is blank" in program.fails("a", blank)


def test_a_field_of_any_length(program):
    limit = csv.field_size_limit()
    program.convert("in.csv", f"text,x\n{'a' * 200_000},1\n", "out.csv")
    assert len(program.stub.texts[0]) == 200_000
    assert csv.field_size_limit() == limit


def test_columns_of_one_name_come_back_where_they_can(program):
    assert program.convert("in.csv", "text,x,x\na,1,2\n", "out.csv").startswith(b"text,x,x,label")
    message = program.fails(program.folder / "in.csv", "--output", program.folder / "out.json")
    assert "there are two columns 'x'" in message


# Lines.


@pytest.mark.parametrize("name", ["in.txt", "in.txt.gz", "-"])
def test_only_line_ends_end_a_line(program, name):
    lines = ["a\u2028b", "c\x85d", "e\x0bf\x0cg", "h\x1ci", "=1+1"]
    content = ("\ufeff" + "\r\n".join(lines) + "\n\n").encode()
    if name == "-":
        program.stdin(content)
    assert program.run(name if name == "-" else program.file(name, content)) == 0
    assert program.stub.texts == lines


def test_line_separators_within_values_of_jsonl(program):
    content = '\ufeff{"text": "a\u2028b\x85c", \r"x": 1}\r\n{"text": "d"}'
    program.convert("in.jsonl", content, "out.jsonl")
    assert program.stub.texts == ["a\u2028b\x85c", "d"]


# Encodings and separators.


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.txt", "in.jsonl", "in.json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings(program, name, encoding):
    content = {
        "in.jsonl": '{"text": "café"}\n',
        "in.json": '[{"text": "café"}]',
        "in.txt": "café\n",
    }.get(name, "text\ncafé\n")
    path = program.file(name, content.encode(encoding))
    if encoding.startswith("utf-8"):
        assert program.run(path) == 0
    else:
        assert "--encoding" in program.fails(path)
    assert program.run(path, "--encoding", encoding) == 0
    assert program.stub.texts == ["café"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("text\na\ncafé\n".encode("cp1252"), "line 3 is not in utf-8 (byte 0xe9); give its"),
        ("text\ncafé\n".encode("utf-16"), "it begins as UTF-16 does; give --encoding utf-16"),
        ("text\ncafé\n".encode("utf-16-le"), "give --encoding utf-16-le"),
        ("text\nпривет\n".encode("utf-16-be"), "give --encoding utf-16-be"),
        (b"PK\x03\x04\xff", "a zip archive, as .xlsx files are"),
    ],
)
def test_what_is_not_utf_8_is_told(program, content, hint):
    assert hint in program.fails(program.file("in.csv", content))


def test_a_line_of_stdin_that_is_not_utf_8_is_named(program):
    program.stdin("abc\ncafé\n".encode("latin-1"))
    assert "stdin: line 2 is not in utf-8 (byte 0xe9)" in program.fails("-")


@pytest.mark.parametrize("encoding", ["nope", "hex"])
def test_an_unknown_encoding(program, encoding):
    path = program.file("in.csv", "text\na\n")
    assert "there is no such encoding" in program.fails(path, "--encoding", encoding)


@pytest.mark.parametrize(
    ("name", "separator", "option"),
    [
        ("in.csv", ";", ";"),
        ("in.csv", "\t", "tab"),
        ("in.csv", "\t", "\\t"),
        ("in.csv", "|", "|"),
        ("in.tsv", ",", ","),
    ],
)
def test_separators(program, name, separator, option):
    path = program.file(name, f'id{separator}text\n1{separator}"a; b, c"\n')
    assert "give --separator" in program.fails(path)
    assert program.run(path, "--separator", option) == 0
    assert program.stub.texts == ["a; b, c"]


def test_a_header_with_another_separator_among_several_columns(program):
    path = program.file("in.csv", "id;text;a,b\n1;hi;x,y\n")
    assert "give --separator ';' if that separates the fields" in program.fails(path)


def test_the_line_that_tells_excel_the_separator(program):
    path = program.file("in.csv", "sep=;\nid;text\n1;a\n")
    assert "give --separator ';'" in program.fails(path)
    assert program.run(path, "--separator", ";") == 0
    assert program.out == "id,text,label,score\n1,a,odd,0.9\n"


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("in.json", ["--separator", ";"]),
        ("in.txt", ["--no-header"]),
        ("in.parquet", ["--encoding", "cp1252"]),
    ],
)
def test_options_that_a_file_has_no_use_for(program, name, option):
    assert f"{option[0]} is not for" in program.fails(program.file(name, "a"), *option)
    assert "are for files" in program.fails("a text", *option)


# Headers and columns.


def test_a_table_without_header(program):
    path = program.file("in.csv", "I like it,1\nmeh,2\n")
    assert "--no-header if the first line names none" in program.fails(path)
    assert program.run(path, "--no-header", "--text-column", "1") == 0
    assert program.out == "1,2,label,score\nI like it,1,odd,0.9\nmeh,2,odd,0.9\n"


@pytest.mark.parametrize(
    ("header", "is_text"),
    [
        ("I love this film very much.", True),
        ("Great value and it arrived on the very next day", True),
        ("Too expensive!!", False),
        ("text", False),
        ("Review text (English)", False),
        ("customer_feedback_2024.final", False),
        ("Comments / suggestions", False),
    ],
)
@pytest.mark.filterwarnings("default")
def test_a_header_that_looks_like_a_text(program, header, is_text):
    path = program.file("in.csv", f"{header}\nmeh\n")
    assert program.run(path) == 0
    assert ("--no-header" in program.err) == is_text
    # Whoever names it has seen it.
    assert program.run(path, "--text-column", header) == 0
    assert program.err == ""


def test_the_column_of_texts_is_called_text(program):
    assert program.run(program.file("in.csv", "id,text\n1,a\n")) == 0
    assert program.run(program.file("in.csv", "review\na\n")) == 0
    assert program.stub.texts == ["a"]


def test_no_column_is_overwritten(program):
    path = program.file("in.csv", "text,label,label_2,score\na,b,c,d\n")
    assert program.run(path, "--scores") == 0
    assert program.out.splitlines() == [
        "text,label,label_2,score,label_3,score_2,score: even,score: odd",
        "a,b,c,d,odd,0.9,0.1,0.9",
    ]
    assert "the result is in 'label_3', 'score_2'" in program.err
    assert program.run(path, "--label-column-out", "told") == 0
    assert program.out.startswith("text,label,label_2,score,told,score_2\n")


@pytest.mark.parametrize("is_escaped", [True, False])
def test_formulas(program, is_escaped):
    option = ["--escape-formulas"] if is_escaped else []
    content = "text,=x\n=1+1,-3\n@a,+x\n"
    written = program.convert("in.csv", content, "out.csv", *option).decode().splitlines()
    expected = ["'=1+1,'-3,", "'@a,'+x,"] if is_escaped else ["=1+1,-3,", "@a,+x,"]
    assert [line[: len(start)] for line, start in zip(written[1:], expected, strict=True)] == (
        expected
    )
    assert program.stub.texts == ["=1+1", "@a"]


@pytest.mark.parametrize(
    ("labels", "cell"), [(LABELS, "even; odd"), (["even; so", "odd"], '"[""even; so"", ""odd""]"')]
)
def test_sets_of_labels_in_one_cell(program, labels, cell):
    clf = GLiClassMultiLabelClassifier(labels=labels)
    among = clf._among(clf._snapshot(), chooses=True)
    scores = Scores(np.ones((1, 2), np.float32), among)
    program.monkeypatch.setattr(clf, "_scores", lambda texts, *, chooses: scores)
    program.monkeypatch.setattr(command, "make_classifier", lambda *_, **__: clf)
    assert program.run(program.file("in.csv", "text\na\n")) == 0
    assert program.out == f"text,labels\na,{cell}\n"


def test_errors_name_the_first_of_many_columns(program):
    path = program.file("in.csv", ",".join(f"c{j}" * 40 for j in range(99)) + "\n")
    assert len(program.fails(path)) < 2000


# Arguments.


@pytest.mark.filterwarnings("default")
def test_what_is_no_file_is_a_text(program):
    assert program.run("please open data.json", "notes.csv") == 0
    assert program.stub.texts == ["please open data.json", "notes.csv"]
    assert program.run("please open data.json") == 0
    assert "there is no file 'please open data.json'" in program.err
    assert "notes.csv: there is no such file" in program.fails("notes.csv")
    assert "there is no such file" in program.fails("a text", "--text-column", "text")
    assert program.run("a" * 5000, "b\0c") == 0


def test_one_file_at_a_time(program):
    path = program.file("in.csv", "text\na\n")
    assert "give one file" in program.fails(path, "a text")
    assert "give one file" in program.fails("a text", path)
    assert "give one file" in program.fails("-", "a text")


def test_a_pipe_is_read_once(program):
    import os
    import threading

    path = program.folder / "in.csv"
    os.mkfifo(path)
    thread = threading.Thread(target=lambda: path.write_text("text\na\nb\n"))
    thread.start()
    assert program.run(path) == 0
    thread.join()
    assert program.stub.texts == ["a", "b"]


# Windows and outputs.


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.json", "out.parquet", "out.xlsx"])
def test_windows_are_one_table(program, name):
    pytest.importorskip({"out.parquet": "pyarrow", "out.xlsx": "openpyxl"}.get(name, "csv"))
    content = "text\n" + "".join(f"{'a' * (i % 5 + 1)}\n" for i in range(10))
    whole = program.convert("in.csv", content, name)
    program.monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 3)
    program.stub.windows.clear()
    parts = program.convert("in.csv", content, name)
    assert program.stub.windows == [3, 3, 3, 1]
    if name != "out.xlsx":  # which holds the time
        assert parts == whole


def test_long_texts_make_short_windows(program):
    program.monkeypatch.setattr(tables, "_CHARACTERS_OF_WINDOW", 100)
    program.convert("in.csv", "text\n" + f"{'a' * 60}\n" * 4, "out.csv")
    assert program.stub.windows == [2, 2]


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.txt"])
def test_memory_does_not_grow_with_the_table(program, name):
    program.monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 100)
    program.stub.predict_proba = lambda texts: np.full((len(texts), 2), 0.5)

    def peak(n_rows):
        row = '{"text": "one of the texts"}\n' if name == "in.jsonl" else "one of the texts\n"
        path = program.file(name, ("text\n" if name == "in.csv" else "") + row * n_rows)
        tracemalloc.start()
        try:
            assert program.run(path, "--output", program.folder / "out.csv") == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(200)
    # Ten times the rows would take twice the memory if they were all held. What something else
    # takes meanwhile is not there each time.
    few, many = (min(peak(n_rows) for _ in range(3)) for n_rows in (600, 6000))
    assert many <= 1.25 * few


@pytest.mark.filterwarnings("default")
def test_windows_warn_together(program):
    program.monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 2)

    def predict_proba(texts):
        warnings.warn(f"1 of {len(texts)} texts did not fit", TruncationWarning, stacklevel=1)
        return np.full((len(texts), 2), 0.5)

    program.stub.predict_proba = predict_proba
    assert program.run(program.file("in.csv", "text\na\nb\nc\n")) == 0
    assert program.err == "skgliclass: warning: 2 of 3 texts did not fit\n"


def test_an_interrupted_run_leaves_what_was_there(program):
    target = program.folder / "out.csv"
    target.write_text("old")
    program.monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 1)

    def predict_proba(texts):
        if program.stub.texts:
            (partial,) = program.folder.glob(".*")
            assert partial.suffix == ".partial"
            raise KeyboardInterrupt
        return Stub.predict_proba(program.stub, texts)

    program.stub.predict_proba = predict_proba
    path = program.file("in.csv", "text\na\nb\n")
    assert program.run(path, "--output", target) == 130
    assert target.read_text() == "old"
    assert sorted(path.name for path in program.folder.iterdir()) == ["in.csv", "out.csv"]


def test_a_full_disk_is_told(program):
    if not Path("/dev/full").exists():
        pytest.skip("a device of Linux")
    target = program.folder / "out.csv"
    target.symlink_to("/dev/full")
    assert program.run(program.file("in.csv", "text\na\n"), "--output", target) == 2
    assert "No space left" in program.err


def test_the_output_may_be_the_input(program):
    path = program.file("in.csv", "text\na\nb\n")
    assert program.run(path, "--output", path) == 0
    with open(path) as file:
        assert file.read() == "text,label,score\na,odd,0.9\nb,odd,0.9\n"


def test_stdout_is_utf_8_and_shows_what_is_done(program, monkeypatch):
    monkeypatch.setattr(tables, "_ROWS_OF_WINDOW", 1)
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    seen = []

    def predict_proba(texts):
        seen.append(raw.getvalue().count(b"\n"))
        return np.full((len(texts), 2), 0.5)

    program.stub.predict_proba = predict_proba
    path = program.file("in.csv", "text\né\nb\nc\n")
    assert main(["classify", path, "--labels", *LABELS]) == 0
    assert seen == [1, 2, 3]
    assert "é,even,0.5\n".encode() in raw.getvalue()


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "a goal\n" * 20_000)
    code = (
        "import sys, unittest.mock as m, test_tables as t; from skgliclass.__main__ import main\n"
        "with m.patch('skgliclass.cli.classify.make_classifier', return_value=t.Stub()):\n"
        f"    sys.exit(main(['classify', {str(path)!r}, '--labels', 'a', 'b']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=__file__.rpartition("/")[0],
        text=True,
    )
    assert process.stdout.readline() == "text,label,score\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1
