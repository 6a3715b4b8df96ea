"""Compare the speed of classifying with that of another version of the package.

    git worktree add --detach ../older COMMIT
    python benchmarks/against.py --data FOLDER --tree ../older --backbone ettin-32m

Two processes, one for each version, classify the same texts in turns (A B A B ...), on the same
threads and in float32, by `predict_proba` of the same checkpoint (see `inference.py`). Prints how
many times as fast this version is, in seconds and in processor time, the share of the arithmetic
that the cores can do, of both, and the largest difference of their probabilities.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from inference import (
    BACKBONES,
    SETS,
    make_checkpoint,
    measured_peak,
    operations_of,
    read_labels,
    read_texts,
    with_range,
)

HERE = Path(__file__).resolve().parents[1]


class Version:
    """A process that classifies with one version of the package."""

    def __init__(self, tree: Path, task: Path, name: str) -> None:
        self.results = task / f"{name}.npy"
        # A process that waits for its turn must not keep a core busy.
        idle = {"OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--answer", str(task), "--results", str(self.results)],
            env={**os.environ, **idle, "PYTHONPATH": str(tree.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        where = Path(self._told())
        if tree.resolve() not in where.parents:
            raise SystemExit(f"{tree} has no package: {where} would be measured.")

    def classify(self) -> tuple[float, float]:
        """Classify the texts once; give the seconds and the processor time."""
        assert self.process.stdin is not None
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        seconds, used = json.loads(self._told())
        return seconds, used

    def close(self) -> np.ndarray:
        """End the process; give its probabilities."""
        self.process.communicate()
        return np.asarray(np.load(self.results))

    def _told(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit("One of the two versions failed: see above.")
        return line


def answer(task: Path, results: Path) -> None:
    """Classify whenever a line comes, until none does."""
    import torch

    import skgliclass

    warnings.filterwarnings("ignore")
    told = json.loads((task / "task.json").read_text(encoding="utf-8"))
    torch.set_num_threads(told["threads"])
    clf = skgliclass.GLiClassMultiLabelClassifier(str(task / "model"), labels=told["labels"])
    clf.predict_proba(told["texts"][:16])
    print(skgliclass.__file__, flush=True)
    probabilities: np.ndarray = np.empty(0)
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        probabilities = clf.predict_proba(told["texts"])
        print(json.dumps([time.perf_counter() - start, time.process_time() - used]), flush=True)
    np.save(results, probabilities)


def compare(args: argparse.Namespace, task: Path) -> None:
    """Let both versions classify in turns."""
    texts = read_texts(args.data, SETS, args.texts, args.seed)
    labels = read_labels(args.data, args.label_set)[: args.labels]
    make_checkpoint(task / "model", args.compare, args.backbone)
    work = operations_of(task / "model", texts, labels)
    told = {"texts": texts, "labels": labels, "threads": args.threads}
    (task / "task.json").write_text(json.dumps(told), encoding="utf-8")
    trees = {"older": args.tree, "this": HERE}
    versions = {name: Version(tree, task, name) for name, tree in trees.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
    peaks = []
    for _ in range(args.turns):
        for name, version in versions.items():
            times[name].append(version.classify())
        peaks.append(measured_peak())
    found = {name: version.close() for name, version in versions.items()}
    older, this = (np.asarray(times[name]) for name in trees)
    shares = [with_range(work / own[:, 0] / np.asarray(peaks)) for own in (older, this)]
    ratios = [with_range(older[:, k] / this[:, k]) for k in range(2)]
    cells = [args.backbone, args.compare, args.labels, *ratios, *shares]
    print("older, seconds:", older[:, 0].round(3), "this:", this[:, 0].round(3))
    titles = ["backbone", "model", "labels", "times as fast", "in processor time"]
    print(f"| {' | '.join([*titles, 'share of the peak, before', 'now'])} |\n|{'---|' * 7}")
    print(f"| {' | '.join(map(str, cells))} |")
    print(f"largest difference: {np.abs(found['older'] - found['this']).max():.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tree", type=Path, help="a checkout of the other version")
    parser.add_argument("--compare", choices=["uni-encoder", "bi-encoder"], default="uni-encoder")
    parser.add_argument("--backbone", choices=["minilm", *BACKBONES], default="minilm")
    parser.add_argument("--texts", type=int, default=24)
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--label-set", default="clinc150")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.answer:
        answer(args.answer, args.results)
        return
    if args.data is None or args.tree is None:
        parser.error("--data and --tree are needed")
    import torch

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        compare(args, Path(name))


if __name__ == "__main__":
    main()
