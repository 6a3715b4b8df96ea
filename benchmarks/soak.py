"""Work for minutes as a service does, and fail where memory, handles or threads keep growing.

Several threads predict, while one fits, saves, loads, pickles and changes parameters. Every round
ends with a look at the process; after the warm-up, its first half, nothing may grow any more. It
ends with 1 where something does, and with 2 where the time is too short to tell.

    python benchmarks/soak.py --minutes 10               # tiny models, made for the run
    python benchmarks/soak.py --minutes 10 --model mini
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

LABELS = ["music", "sport", "travel"]
WORDS = [["café", "degrees", "today"], ["fox", "dog", "jumps"], ["world", "day", "see"]]
TINY = ["uni first", "bi avg", "fused", "halves t5", "kv qwen3"]
QUICK: dict[str, Any] = {"max_epochs": 1, "batch_size": 4, "random_state": 0}
MOST_MINUTES = 60
# Beside what an allocator keeps back, in MiB over the second half of the run.
MOST_GROWTH = 16.0
FEWEST_LOOKS = 12


@dataclass(frozen=True)
class Look:
    """What a process holds."""

    seconds: float
    resident: float
    handles: int
    threads: int


def look(begun: float) -> Look:
    """Read what the process holds from /proc; memory in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    handles = len(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))
    return Look(time.monotonic() - begun, resident, handles, threads)


def toy(n: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Draw texts whose words tell their class."""
    classes = rng.integers(3, size=n)
    texts = [" ".join(rng.choice(WORDS[k], int(rng.integers(1, 40)))) for k in classes]
    return texts, [LABELS[k] for k in classes]


def predict_often(models: list[str], seed: int, stop: threading.Event) -> int:
    """Predict with other texts and labels every time; give how often."""
    rng, n_calls = np.random.default_rng(seed), 0
    while not stop.is_set():
        labels = [*LABELS, *(f"number {rng.integers(1000)}" for _ in range(rng.integers(5)))]
        clf = GLiClassClassifier(str(rng.choice(models)), sorted({*labels}))
        clf.set_params(long_texts=str(rng.choice(["truncate", "chunk"])), max_length=96)
        clf.predict_proba(toy(int(rng.integers(1, 12)), rng)[0])
        n_calls += 1
    return n_calls


def one_round(model: str, folder: Path, rng: np.random.Generator) -> None:
    """Fit, save, load, pickle and change parameters."""
    X, y = toy(9, rng)
    classifier: Any = GLiClassClassifier(model, LABELS, trainable="head", **QUICK)
    classifier.fit(X, y)
    several: Any = GLiClassMultiLabelClassifier(model, LABELS, **QUICK)
    several.fit(X, [{name} for name in y])
    for clf in (classifier, several):
        clf.partial_fit(X, y if clf is classifier else [{name} for name in y])
        expected = clf.predict_proba(X)
        clf.save_pretrained(folder / "saved")
        loaded = type(clf).from_pretrained(folder / "saved")
        for other in (loaded, pickle.loads(pickle.dumps(clf)), pickle.loads(pickle.dumps(loaded))):
            if np.abs(other.predict_proba(X) - expected).max() > 1e-5:
                raise SystemExit("a saved classifier predicts otherwise")
        loaded.set_params(n_permutations=2, task_description="Classify this:").predict(X)
        loaded.set_params(labels=["fox", "world"]).predict_proba(X)
    try:
        clf.predict([None])
    except (TypeError, ValueError):
        pass
    else:
        raise SystemExit("a missing text was no error")


def growth(looks: list[Look], name: str) -> float:
    """Give how much more there is at the end than after the warm-up, by medians of a quarter."""
    values = [getattr(taken, name) for taken in looks[len(looks) // 2 :]]
    part = max(1, len(values) // 3)
    return float(np.median(values[-part:]) - np.median(values[:part]))


def tiny_models(folder: Path) -> list[str]:
    """Write a tiny model of each architecture."""
    from seeded import write_model

    return [write_model(folder / name.replace(" ", "-"), name) for name in TINY]


def run(models: list[str], minutes: float, n_threads: int, folder: Path) -> list[Look]:
    """Work until the time is over, with a look after every round."""
    begun, stop, rng = time.monotonic(), threading.Event(), np.random.default_rng(0)
    looks: list[Look] = []
    with ThreadPoolExecutor(n_threads) as pool:
        callers = [pool.submit(predict_often, models, seed, stop) for seed in range(n_threads)]
        try:
            for model in cycle(models):
                if time.monotonic() - begun > 60 * minutes:
                    break
                one_round(model, folder, rng)
                looks.append(look(begun))
                taken = looks[-1]
                print(
                    f"{taken.seconds:6.0f} s  {taken.resident:7.1f} MiB  {taken.handles:4d} handles"
                    f"  {taken.threads:4d} threads",
                    flush=True,
                )
        finally:
            stop.set()
        print(f"{len(looks)} rounds, {sum(caller.result() for caller in callers)} other calls")
    return looks


def main() -> int:
    """Run, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0, help="at most 60 (default: 10)")
    parser.add_argument("--model", help="a name or folder (default: tiny ones, made for the run)")
    parser.add_argument("--threads", type=int, default=3, help="that predict (default: 3)")
    args = parser.parse_args()
    if not 0 < args.minutes <= MOST_MINUTES:
        parser.error(f"--minutes is more than 0 and at most {MOST_MINUTES}")
    # Cut texts and odd labels are meant.
    import warnings

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        models = [args.model] if args.model else tiny_models(Path(name))
        looks = run(models, args.minutes, args.threads, Path(name))
    if len(looks) < FEWEST_LOOKS:
        print(f"{len(looks)} rounds are too few to tell; give more --minutes")
        return 2
    grown = {kind: growth(looks, kind) for kind in ("resident", "handles", "threads")}
    print("growth after the warm-up: " + ", ".join(f"{k} {v:+.1f}" for k, v in grown.items()))
    is_trend = grown["resident"] > MOST_GROWTH or max(grown["handles"], grown["threads"]) > 2
    print("a trend remains" if is_trend else "no trend remains")
    return int(is_trend)


if __name__ == "__main__":
    sys.exit(main())
