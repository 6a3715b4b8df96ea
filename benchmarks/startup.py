"""Measure what comes before the first prediction, and what one more text costs a running service.

    python benchmarks/startup.py

In fresh processes: the time to import the package, the time to the first prediction of the
embedded model (which loads it), and the peak of memory after it. Then, in one process, the latency
of a single text: each call of ``predict_proba`` and of the engine takes turns with one bare forward
pass of the same model over the same tokens, for a short and a long text, whose ratio is printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

LABELS = ["travel", "dreams", "sport", "science", "politics"]
TEXT = "One day I will see the world! "
START = """
import json, resource, time
t = [time.perf_counter()]
from skgliclass import GLiClassClassifier
t.append(time.perf_counter())
GLiClassClassifier(labels={labels!r}).predict_proba([{text!r}])
t.append(time.perf_counter())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([t[1] - t[0], t[2] - t[1], peak]))
"""


def start_once() -> list[float]:
    """Give the seconds of importing and of the first prediction, and the peak of memory in MiB."""
    code = START.format(labels=LABELS, text=TEXT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def latencies(text: str, n_calls: int) -> dict[str, list[float]]:
    """Time calls for one text in turns with a bare forward pass."""
    from skgliclass import GLiClassClassifier

    classifier = GLiClassClassifier(labels=LABELS)
    classifier.predict_proba([text])
    engine = classifier._engine(None)
    model = engine.loaded.network
    composer, labels = engine.composer, tuple(LABELS)
    (ids,) = composer.encode_texts([text])
    inputs = engine.border.inputs([composer.compose([], ids[: composer.text_room(0)])])
    vectors = torch.from_numpy(engine.label_vectors(labels))

    @torch.inference_mode()
    def bare() -> Any:
        return model(**inputs, label_vectors=vectors).logits

    calls = {
        "forward pass": bare,
        "engine": lambda: engine.logits([text], labels),
        "predict_proba": lambda: classifier.predict_proba([text]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_calls):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    args = parser.parse_args()

    starts = np.asarray([start_once() for _ in range(args.turns)])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| | median | from | to |\n|---|---|---|---|")
    for name, own in zip(("import, s", "first prediction, s", "peak, MiB"), starts.T, strict=True):
        print(f"| {name} | {np.median(own):.2f} | {own.min():.2f} | {own.max():.2f} |")

    print("\n| one text | call | p50, ms | p95, ms | p50 of a forward pass, times |")
    print("|---|---|---|---|---|")
    for n_words in (7, 105):
        seconds = latencies(TEXT * (n_words // 7), args.calls)
        bare = np.median(seconds["forward pass"])
        for name, own in seconds.items():
            p50, p95 = np.percentile(own, [50, 95])
            print(f"| {n_words} words | {name} | {p50 * 1e3:.2f} | {p95 * 1e3:.2f} ", end="")
            print(f"| {p50 / bare:.2f} |")
    print(f"\npeak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
