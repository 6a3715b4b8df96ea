"""The memory and time that `skgliclass classify` takes for tables of different lengths.

    python benchmarks/streaming.py --rows 100000 1000000 --formats csv jsonl parquet txt

The scores are made up, so that the figures are of reading and writing alone; each run has a process
of its own. The last column is the peak beside that of the shortest table. Linux only.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

FORMATS = ("csv", "csv.gz", "tsv", "txt", "jsonl", "json", "parquet", "xlsx")


class Classifier:
    """A classifier that makes its scores up."""

    classes_ = np.asarray(["travel", "dreams", "sport"], dtype=object)
    other = None

    def set_params(self, **parameters: Any) -> Classifier:
        """Take parameters and do nothing with them."""
        return self

    def predict_proba(self, texts: list[str]) -> NDArray[np.float64]:
        """Give scores that depend on the text."""
        share = np.asarray([len(text) % 10 for text in texts])[:, None] / 20
        return np.hstack([share, share, 1 - 2 * share])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", default=["csv", "jsonl"], choices=FORMATS)
    parser.add_argument("--run", nargs=2, metavar=("INPUT", "OUTPUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        measure(*args.run)
        return
    print(f"{'format':<8} {'rows':>9} {'seconds':>8} {'peak MB':>8} {'ratio':>6}")
    for kind in args.formats:
        smallest = 0.0
        for n_rows in sorted(args.rows):
            seconds, peak = run(kind, n_rows)
            smallest = smallest or peak
            print(f"{kind:<8} {n_rows:>9,} {seconds:>8.1f} {peak:>8.0f} {peak / smallest:>6.3f}")


def run(kind: str, n_rows: int) -> tuple[float, float]:
    """Classify a table in a process of its own; give its seconds and its peak in MB."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"in.{kind}", Path(folder) / f"out.{kind}"
        write(source, kind, n_rows)
        output = target if kind != "txt" else target.with_suffix(".csv")
        command = [sys.executable, __file__, "--run", str(source), str(output)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, peak = told.split()
    return float(seconds), float(peak)


def measure(source: str, target: str) -> None:
    from skgliclass.__main__ import main as command

    start = time.perf_counter()
    with mock.patch("skgliclass.cli.classify.make_classifier", return_value=Classifier()):
        status = command(["classify", source, "--labels", "a", "b", "c", "--output", target])
    print(time.perf_counter() - start, peak_of_process())
    sys.exit(status)


def peak_of_process() -> float:
    """Give the most memory that this process has had, in MB."""
    # getrusage would count what the process was before, the one that wrote the table.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if "VmHWM" in line)


Rows = Callable[[int], Iterator[dict[str, str]]]


def rows(n_rows: int) -> Iterator[dict[str, str]]:
    for i in range(n_rows):
        yield {"id": f"{i:07}", "text": f"{i} is one of the texts" + " and so on" * (i % 20)}


def write(path: Path, kind: str, n_rows: int, rows: Rows = rows) -> None:
    """Write a table of such rows, all with the same columns."""
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        # In one row group, as others write it.
        parquet.write_table(
            pyarrow.Table.from_pylist(list(rows(n_rows))), path, row_group_size=n_rows
        )
        return
    if kind == "xlsx":
        from openpyxl import Workbook

        book = Workbook(write_only=True)
        sheet = book.create_sheet()
        sheet.append(list(next(rows(1))))
        for row in rows(n_rows):
            sheet.append(list(row.values()))
        book.save(path)
        return
    opener: Callable[..., IO[str]] = gzip.open if kind.endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(lines(kind, rows(n_rows)))


def lines(kind: str, rows: Iterator[dict[str, str]]) -> Iterator[str]:
    if kind == "json":
        yield "["
        for i, row in enumerate(rows):
            yield (",\n" if i else "") + json.dumps(row)
        yield "]"
    elif kind.startswith("jsonl"):
        yield from (json.dumps(row) + "\n" for row in rows)
    elif kind == "txt":
        yield from (row["text"] + "\n" for row in rows)
    else:
        separator = "\t" if kind == "tsv" else ","
        for i, row in enumerate(rows):
            if not i:
                yield separator.join(row) + "\n"
            yield separator.join(row.values()) + "\n"


if __name__ == "__main__":
    main()
