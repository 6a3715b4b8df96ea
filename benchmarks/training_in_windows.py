"""The memory and time that `skgliclass train` takes for files of different lengths.

    python benchmarks/training_in_windows.py --rows 100000 1000000 --formats jsonl jsonl.gz

A tiny random model is trained for one epoch, so that the figures are of the rows more than of the
model; each run has a process of its own. The last column is the peak beside that of the shortest
file. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from streaming import peak_of_process, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

LABELS = ("travel", "dreams", "sport", "music")
FORMATS = ("csv", "csv.gz", "jsonl", "jsonl.gz", "parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", default=["jsonl"], choices=FORMATS)
    parser.add_argument("--run", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args, options = parser.parse_known_args()
    if args.run:
        measure(args.run)
        return
    print(f"{'format':<8} {'rows':>9} {'seconds':>8} {'peak MB':>8} {'ratio':>6}")
    for kind in args.formats:
        smallest = 0.0
        for n_rows in sorted(args.rows):
            seconds, peak = run(kind, n_rows, options)
            smallest = smallest or peak
            print(f"{kind:<8} {n_rows:>9,} {seconds:>8.1f} {peak:>8.0f} {peak / smallest:>6.3f}")


def run(kind: str, n_rows: int, options: list[str]) -> tuple[float, float]:
    """Train on a file in a process of its own; give its seconds and its peak in MB."""
    from tiny import sentence_transformer

    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / f"in.{kind}", Path(folder) / "tuned"
        write(source, kind, n_rows, rows)
        model = sentence_transformer(Path(folder) / "model", n_layers=1)
        command = [sys.executable, __file__, "--run", "train", str(source), "--model", str(model)]
        quick = ["--output", str(output), "--max-epochs", "1", "--batch-size", "512", *options]
        told = subprocess.run([*command, *quick], check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = told.stdout.split()[-2:]
    return float(seconds), float(peak)


def measure(arguments: list[str]) -> None:
    from skgliclass.__main__ import main as command

    start = time.perf_counter()
    status = command(arguments)
    print(time.perf_counter() - start, peak_of_process())
    sys.exit(status)


def rows(n_rows: int) -> Iterator[dict[str, str]]:
    for i in range(n_rows):
        label = LABELS[i * 7919 % len(LABELS)]
        yield {"text": f"{i} is a text of {label}" + " and so on" * (i % 20), "label": label}


if __name__ == "__main__":
    main()
