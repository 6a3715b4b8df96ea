"""Compare scores on published checkpoints with the ``gliclass`` package.

    pip install -c constraints.txt ".[dev]"
    python benchmarks/published.py                    # six models, about 3 GB from the hub
    python benchmarks/published.py FOLDER_OR_NAME...  # others, or local ones

Both score the same texts against the same labels on a CPU in float32, from text to score: their
tokenizers, prompts, networks. The pipeline of ``gliclass`` takes one text at a time, since much of
what it computes depends on padding. Prints one Markdown row a model: the largest difference between
logits, divided by the largest logit where that is above one; for how many texts the most likely
label is the same; and seconds of both. A model that cannot be read gets a row that says why, and
the command ends with exit status 1, as it does where logits differ by more than 1e-4.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from typing import Any

import numpy as np

MODELS = [
    "knowledgator/gliclass-edge-v3.0",
    "knowledgator/gliclass-modern-base-v3.0",
    "knowledgator/gliclass-base-v3.0",
    "knowledgator/gliclass-instruct-base-v1.0",
    "knowledgator/gliclass-multilang-edge-v1.0",
    "knowledgator/gliclass-biencoder-v1.0",
]
LABELS = ["travel", "dreams", "sport", "science and technology", "politics", "a complaint"]
TEXTS = [
    "One day I will see the world!",
    "The match ended in a draw after extra time.",
    "The parcel arrived broken, and nobody answers my letters.",
    "Parliament votes on the budget on Thursday; the opposition will abstain.",
    "Die Sonde hat den Rand des Sonnensystems erreicht.",
    "Un tren nocturno une de nuevo las dos capitales.",
    "ok",
    "In the dream I missed the last train, ran along the river, and woke up laughing. " * 6,
]
TOLERANCE = 1e-4


def reference_logits(name: str, texts: list[str], labels: list[str]) -> np.ndarray:
    """Give the logits behind the scores of the pipeline of ``gliclass``, one text at a time."""
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline
    from transformers import AutoTokenizer

    pipeline = ZeroShotClassificationPipeline(
        GLiClassModel.from_pretrained(name).eval(),
        AutoTokenizer.from_pretrained(name),
        classification_type="multi-label",
        device="cpu",
        progress_bar=False,
        max_length=512,
    )
    rows = []
    for text in texts:
        found = pipeline([text], labels, threshold=0.0, batch_size=1)[0]
        scores = {item["label"]: item["score"] for item in found}
        rows.append([scores[label] for label in labels])
    probabilities = np.asarray(rows, dtype=np.float64)
    logits: np.ndarray = np.log(probabilities) - np.log1p(-probabilities)
    return logits


def our_logits(name: str, texts: list[str], labels: list[str]) -> np.ndarray:
    """Give the logits of a classifier of this package."""
    from skgliclass import GLiClassMultiLabelClassifier

    classifier = GLiClassMultiLabelClassifier(
        model=name, labels=labels, device="cpu", dtype="float32", max_length=512
    )
    return np.asarray(classifier.decision_function(texts), dtype=np.float64)


def compare(name: str, texts: list[str], labels: list[str]) -> dict[str, Any]:
    """Score with both.

    Returns
    -------
    dict
        ``difference``, ``same`` (how many texts have the same most likely label), ``ours`` and
        ``theirs`` (seconds, loading included).
    """
    results, seconds = [], []
    for logits in (our_logits, reference_logits):
        start = time.perf_counter()
        results.append(logits(name, texts, labels))
        seconds.append(time.perf_counter() - start)
    ours, theirs = results
    # A score that rounds to 0 or 1 says no more than that its logit is large.
    known = np.isfinite(theirs)
    largest = max(1.0, float(np.abs(theirs[known]).max(initial=0.0)))
    return {
        "difference": float(np.abs(ours - theirs)[known].max(initial=0.0)) / largest,
        "same": int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum()),
        "ours": seconds[0],
        "theirs": seconds[1],
    }


def describe(name: str, texts: list[str], labels: list[str]) -> tuple[str, bool]:
    """Give a row of the table, and whether all is well."""
    try:
        found = compare(name, texts, labels)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0].replace("|", "/")[:120]
        return f"| {name} | {type(error).__name__}: {reason} | | | |", False
    same = f"{found['same']} of {len(texts)}"
    row = f"| {name} | {found['difference']:.0e} | {same} | {found['ours']:.1f} | "
    return row + f"{found['theirs']:.1f} |", found["difference"] <= TOLERANCE


def main(arguments: list[str] | None = None) -> int:
    """Print the table; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="*", default=MODELS, help="folders or hub ids; six from the hub if none"
    )
    args = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    print("| model | difference | same label | ours, s | gliclass, s |\n|---|---|---|---|---|")
    all_well = True
    for name in args.models:
        row, is_well = describe(name, TEXTS, LABELS)
        all_well &= is_well
        print(row, flush=True)
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
