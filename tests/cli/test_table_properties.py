"""Whatever is written to a table comes back when it is read, or an error says why it cannot."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given
from hypothesis import strategies as st
from strategies import any_characters, short_texts, surrogates

from skgliclass.cli.errors import CommandError
from skgliclass.cli.tables import Table, TableOptions, Window, open_table
from skgliclass.cli.writers import opened_writer

# What has a meaning in one of the formats.
SYNTAX = [
    '"',
    '""',
    ",",
    ";",
    "\t",
    "|",
    "'",
    "\r",
    "\n",
    "\r\n",
    "\\",
    " ",
    "=1+1",
    "sep=;",
    "null",
]
SYNTAX += ["_x0041_", "_x000D_", "#N/A", "TRUE", "1e5", "01", "NaN", "<a>&amp;", "\ufeff", "\u2028"]
pieces = st.one_of(st.sampled_from(SYNTAX), any_characters, short_texts)
cells = st.lists(pieces, max_size=4).map("".join)
# Sources refuse NUL, which nearly always comes from another encoding.
csv_cells = cells.filter(lambda cell: "\0" not in cell)


@st.composite
def tables(draw, cells, names=csv_cells, n_columns=(1, 4)):
    """Draw the names of columns and rows of as many cells."""
    width = draw(st.integers(*n_columns))
    columns = draw(st.lists(names, min_size=width, max_size=width, unique=True))
    row = st.lists(cells, min_size=width, max_size=width)
    return columns, draw(st.lists(row, min_size=1, max_size=6))


def come_back(name, columns, rows):
    """Write rows with the command's writer and read them with its reader."""
    half = (len(columns) + 1) // 2
    source = Table("drawn", columns[:half], lambda: iter([Window(tuple(columns[:half]), left)]))
    left = [row[:half] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"table{name}")
        with opened_writer(path, source, columns[half:]) as writer:
            (window,) = source.windows()
            writer.write(window, [row[half:] for row in rows])
        table = open_table(path)
        return list(table.columns), [row for window in table.windows() for row in window.rows]


@given(tables(csv_cells, n_columns=(2, 4)), st.sampled_from([".csv", ".tsv", ".csv.gz"]))
@example((["\ufeffa", "b"], [["", ""]]), ".csv")
def test_delimited_files(table, kind):
    columns, rows = table
    assert come_back(kind, columns, rows) == (columns, rows)


@given(st.lists(csv_cells, min_size=1, max_size=6), st.sampled_from([".csv", ".tsv"]))
def test_one_column_with_blank_cells(column, kind):
    rows = [[cell] for cell in column]
    assert come_back(kind, ["text"], rows) == (["text"], rows)


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        cells,
        surrogates,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(any_characters, inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    tables(json_values, names=cells), st.sampled_from([".jsonl", ".json", ".jsonl.gz", ".json.gz"])
)
def test_json_keeps_every_value_and_its_type(table, kind):
    columns, rows = table
    names, back = come_back(kind, columns, rows)
    assert (names, back) == (columns, rows)
    # 1, 1.0 and True are equal, but not the same.
    assert repr(back) == repr(rows)


@pytest.mark.needs("pyarrow")
@given(tables(st.one_of(st.none(), cells), names=cells))
def test_parquet_keeps_texts(table):
    columns, rows = table
    assert come_back(".parquet", columns, rows) == (columns, rows)


@pytest.mark.needs("openpyxl")
@given(tables(cells, names=cells.filter(bool)))
@example((["a"], [["_x0041_ _xD83D_"], ["b\rc\r\n"], ["\x01\x1f\uffff_x005F_x0001_"]]))
def test_excel_keeps_texts(table):
    columns, rows = table
    names, back = come_back(".xlsx", columns, rows)
    assert names == columns
    # An empty text is an empty cell, and a sheet has no rows where all are.
    filled = [[cell or None for cell in row] for row in rows if any(row)]
    assert [row for row in back if any(row)] == filled


@given(
    tables(csv_cells, n_columns=(2, 4)),
    st.sampled_from([",", ";", "\t", "|", ":", "~"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_files_of_other_programs(table, separator, encoding, end, quoting):
    columns, rows = table
    buffer = io.StringIO(newline="")
    # Of line ends csv quotes those in `lineterminator` alone.
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\r\n", quoting=quoting)
    for row in [columns, *rows]:
        writer.writerow(row)
    text = buffer.getvalue()
    if quoting == csv.QUOTE_ALL and not any("\r\n" in c for row in [columns, *rows] for c in row):
        text = text.replace("\r\n", end)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(text.encode(encoding))
        table = open_table(str(path), TableOptions(encoding, separator))
        back = [row for window in table.windows() for row in window.rows]
    assert (list(table.columns), back) == (columns, rows)


@given(st.lists(csv_cells.filter(lambda line: not {*"\r\n"} & {*line}), min_size=1, max_size=6))
def test_lines_of_text_files(lines):
    while lines and not lines[-1]:
        lines = lines[:-1]
    if lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
        table = open_table(str(path))
        assert [cell for window in table.windows() for cell in window.column(0)] == lines


@given(cells, st.integers(0, 3))
def test_nul_is_refused_with_its_line(cell, row):
    rows = [["fine"]] * row + [[f"{cell}\0"]]
    with pytest.raises(CommandError, match=r"line \d+ holds a NUL character"):
        come_back(".csv", ["text"], rows)
