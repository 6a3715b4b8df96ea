"""Classify a table in workers of Dask, Spark and Ray, beside a plain `predict` of the same rows.

    pip install -c constraints.txt ".[mini,dask,ray,spark]"
    OMP_NUM_THREADS=1 python benchmarks/engines.py
    OMP_NUM_THREADS=1 python benchmarks/engines.py --kill
    OMP_NUM_THREADS=1 python benchmarks/engines.py --rates --data FOLDER

Every engine has one worker with one thread, reads Parquet files of ``--part`` rows, and gives back
the number and the class of each row. Engines and the plain `predict`, of one thread as well, take
turns (plain, engine, plain, ...). Start-up, which is a table of one row in each file, is taken
off: it starts Ray's actors anew, and is little where a worker is there already. Beside seconds,
those of processors are shown, of all processes of the engine, less what they take while idle: on a
busy machine these count.

``--rates --data FOLDER`` uses no engine: it prints how many texts of real sets of three lengths a
core classifies a second, from CPU time on one thread, and what a million, a billion and a trillion
of them take.

``--kill`` times nothing: with two workers, it kills one of them in the middle, and counts the rows
that are lost, twice there, or of another class than that of the plain `predict`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from inference import read_texts
from numpy.typing import NDArray

from skgliclass import GLiClassClassifier
from skgliclass.distributed import classify_frame

LABELS = ["travel", "sport", "economy", "science"]
# Short, so that what an engine costs a row weighs most.
SENTENCES = ["A train to Samarkand.", "A late goal wins it.", "Rates stay up.", "Water on Mars."]
SETS = ["sst2", "ag_news", "imdb"]
Classify = Callable[[GLiClassClassifier, Path], pd.DataFrame]


class Mortal(GLiClassClassifier):
    """Kills the first process that it reads a certain text in."""

    text: str
    mark: str

    def predict(self, X: Any, labels: Any = None) -> Any:
        """Predict, or die."""
        if self.text in X:
            with suppress(FileExistsError):
                Path(self.mark).touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(X, labels)


@contextmanager
def dask_workers(n_workers: int) -> Iterator[Classify]:
    import dask.dataframe as dd
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):

        def classify(clf: GLiClassClassifier, folder: Path) -> pd.DataFrame:
            found = classify_frame(clf, dd.read_parquet(str(folder)), "text")
            return found[["id", "predicted"]].compute()

        yield classify


@contextmanager
def spark_workers(n_workers: int) -> Iterator[Classify]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master(f"local[{n_workers},4]")
        .config("spark.ui.enabled", "false")
        # A file a task, and not several small ones.
        .config("spark.sql.files.openCostInBytes", str(2**30))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")

    def classify(clf: GLiClassClassifier, folder: Path) -> pd.DataFrame:
        found = classify_frame(clf, session.read.parquet(str(folder)), "text")
        rows = found.select("id", "predicted").collect()
        return pd.DataFrame([row.asDict() for row in rows])

    yield classify
    session.stop()


@contextmanager
def ray_workers(n_workers: int) -> Iterator[Classify]:
    import ray
    import ray.data

    # One more than actors, to read with.
    ray.init(
        num_cpus=n_workers + 1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    def classify(clf: GLiClassClassifier, folder: Path) -> pd.DataFrame:
        found = classify_frame(
            clf,
            ray.data.read_parquet(str(folder)),
            "text",
            compute=ray.data.ActorPoolStrategy(size=n_workers),
        )
        return found.select_columns(["id", "predicted"]).to_pandas()

    yield classify
    ray.shutdown()


ENGINES = {"dask": dask_workers, "spark": spark_workers, "ray": ray_workers}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--part", type=int, default=2_000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    if args.rates:
        show_rates(args.data)
        return
    texts = [f"{SENTENCES[i % 4]} ({i})" for i in range(args.rows)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "all"), texts, args.part)
        write(Path(folder, "start"), texts[: args.rows // args.part], 1)
        if args.kill:
            kill(args.engines, texts, Path(folder))
        else:
            compare(args.engines, texts, Path(folder), args.turns)


def write(folder: Path, texts: list[str], n_rows: int) -> None:
    """Write Parquet files of so many rows."""
    folder.mkdir()
    frame = pd.DataFrame({"id": np.arange(len(texts)), "text": texts})
    for start in range(0, len(frame), n_rows):
        frame[start : start + n_rows].to_parquet(folder / f"{start:09}.parquet", index=False)


def compare(engines: list[str], texts: list[str], folder: Path, n_turns: int) -> None:
    clf = GLiClassClassifier(labels=LABELS, device="cpu")
    clf.predict(texts[:64])
    print("| engine | plain, s | engine, s | start, s | ratio | plain, CPU s | engine | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in engines:
        with ENGINES[name](1) as classify:
            classify(clf, folder / "start")
            # Its servers are busy by the clock, which on a busy machine runs longer.
            idle = spent(lambda: time.sleep(10))[1] / 10
            for _ in range(n_turns):
                plain = spent(lambda: clf.predict(texts))
                start = spent(lambda: classify(clf, folder / "start"))
                engine = spent(lambda: classify(clf, folder / "all")) - start
                engine[1] -= idle * engine[0]
                plain[1] -= idle * plain[0]
                wall, cpu = engine / plain
                print(
                    f"| {name} | {plain[0]:.1f} | {engine[0]:.1f} | {start[0]:.1f} | {wall:.3f} "
                    f"| {plain[1]:.1f} | {engine[1]:.1f} | {cpu:.3f} |",
                    flush=True,
                )


def kill(engines: list[str], texts: list[str], folder: Path) -> None:
    plain = GLiClassClassifier(labels=LABELS, device="cpu").predict(texts)
    print("| engine | rows | lost | twice | other class | killed |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in engines:
        clf = Mortal(labels=LABELS, device="cpu")
        clf.text, clf.mark = texts[len(texts) // 2], str(folder / f"{name} killed")
        with ENGINES[name](2) as classify:
            found = classify(clf, folder / "all").sort_values("id", ignore_index=True)
        rows = found.drop_duplicates("id")
        n_other = int((rows["predicted"].to_numpy() != plain[rows["id"]]).sum())
        print(
            f"| {name} | {len(texts)} | {len(texts) - len(rows)} | {len(found) - len(rows)} "
            f"| {n_other} | {'yes' if Path(clf.mark).exists() else 'no'} |",
            flush=True,
        )


def show_rates(data: Path) -> None:
    clf = GLiClassClassifier(labels=LABELS, device="cpu")
    clf.predict(SENTENCES)
    print("| set | characters | texts a second | core-hours: million | billion | trillion |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for name in SETS:
        texts = read_texts(data, [name], 1_000, seed=0)
        start = time.process_time()
        clf.predict(texts)
        rate = len(texts) / (time.process_time() - start)
        hours = " | ".join(f"{n / rate / 3600:.3g}" for n in (1e6, 1e9, 1e12))
        characters = np.mean([len(text) for text in texts])
        print(f"| {name} | {characters:.0f} | {rate:.0f} | {hours} |", flush=True)


def spent(run: Callable[[], Any]) -> NDArray[np.float64]:
    """Give the seconds that something takes, and those of processors in all processes below."""
    before = np.array([time.perf_counter(), processor_seconds()])
    run()
    return np.array([time.perf_counter(), processor_seconds()]) - before


def processor_seconds() -> float:
    """Add up the processor time of this process and all below it, as Linux counts it."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        # One may end meanwhile.
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            # Its own, and that of what it started and has ended.
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    own = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= found
    return sum(ticks[pid] for pid in own) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
