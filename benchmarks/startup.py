"""Measure what comes before the first prediction, and what one more text costs a running service.

    python benchmarks/startup.py
    python benchmarks/startup.py --backbone ettin-32m

In fresh processes, in turns: the time to import the package beside that to import scikit-learn and
pandas, and the time from there to the first prediction of the embedded model (which loads it)
beside that to import torch; and the peak of memory. Then, in one process, the latency of a single
text: each call of ``predict_proba`` and of the engine takes turns with one bare forward pass of the
same model over the same tokens, for a short and a long text, whose ratio is printed.
``--backbone`` puts a uni-encoder around another encoder (see `inference.py`) in the place of the
embedded model there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import BACKBONES, make_checkpoint, with_range

LABELS = ["travel", "dreams", "sport", "science", "politics"]
TEXT = "One day I will see the world! "
START = """
import json, resource, time
t = [time.perf_counter()]
{first}
t.append(time.perf_counter())
{second}
t.append(time.perf_counter())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([t[1] - t[0], t[2] - t[1], peak]))
"""
LIBRARIES = START.format(first="import sklearn, pandas", second="import torch")
PACKAGE = START.format(
    first="from skgliclass import GLiClassClassifier",
    second=f"GLiClassClassifier(labels={LABELS!r}).predict_proba([{TEXT!r}])",
)


def start_once(code: str) -> list[float]:
    """Give the seconds of both parts of a code, and the peak of memory in MiB."""
    # As where a package is installed: modules are compiled once.
    own = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own
    )
    found: list[float] = json.loads(done.stdout)
    return found


def print_starts(n_turns: int) -> None:
    """Start processes in turns; the first of each kind, which fills caches, does not count."""
    turns = [[start_once(LIBRARIES), start_once(PACKAGE)] for _ in range(n_turns + 1)]
    libraries, package = np.asarray(turns[1:]).transpose(1, 2, 0)
    print("| | median | of the libraries | times |\n|---|---|---|---|")
    names = ("import, s (scikit-learn, pandas)", "first prediction, s (torch)", "peak, MiB")
    for name, own, other in zip(names, package, libraries, strict=True):
        print(f"| {name} | {np.median(own):.2f} | {np.median(other):.2f} ", end="")
        print(f"| {with_range(own / other)} |")


def bare_pass(classifier: Any, text: str) -> Callable[[], Any]:
    """Give the call of the network that a prediction makes."""
    network = classifier._engine(None).loaded.network
    calls: list[tuple[Any, Any]] = []
    hook = network.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    classifier.predict_proba([text])
    hook.remove()
    ((args, kwargs),) = calls

    @torch.inference_mode()
    def run() -> Any:
        return network(*args, **kwargs).logits

    return run


def latencies(model: str, text: str, n_calls: int) -> dict[str, np.ndarray]:
    """Time calls for one text in turns with a bare forward pass."""
    from skgliclass import GLiClassClassifier

    classifier = GLiClassClassifier(model, LABELS)
    # What is kept for a model, such as vectors of labels, is there from the second call on.
    classifier.predict_proba([text])
    engine = classifier._engine(None)
    calls = {
        "forward pass": bare_pass(classifier, text),
        "engine": lambda: engine.logits([text], tuple(LABELS)),
        "predict_proba": lambda: classifier.predict_proba([text]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_calls):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.asarray(own) for name, own in seconds.items()}


def print_latencies(model: str, n_calls: int) -> None:
    print("| one text | call | p50, ms | p99, ms | times a forward pass: p50 | p99 |")
    print("|---|---|---|---|---|---|")
    for n_words in (7, 105):
        seconds = latencies(model, TEXT * (n_words // 7), n_calls)
        bare = np.percentile(seconds["forward pass"], [50, 99])
        for name, own in seconds.items():
            p50, p99 = np.percentile(own, [50, 99])
            print(f"| {n_words} words | {name} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} ", end="")
            print(f"| {p50 / bare[0]:.2f} | {p99 / bare[1]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="0 leaves the starts out")
    parser.add_argument("--calls", type=int, default=200, help="0 leaves the latencies out")
    parser.add_argument("--backbone", choices=["embedded", "minilm", *BACKBONES])
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    if args.turns:
        print_starts(args.turns)
        print()
    if not args.calls:
        return
    with tempfile.TemporaryDirectory() as name:
        model = "mini"
        if args.backbone not in (None, "embedded"):
            make_checkpoint(Path(name), backbone=args.backbone)
            model = name
        print_latencies(model, args.calls)
    print(f"\npeak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
