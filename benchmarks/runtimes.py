"""Compare what can run the forward passes: torch in several ways, ONNX Runtime and OpenVINO.

    pip install -c constraints.txt ".[mini,onnx]" openvino
    python benchmarks/runtimes.py --data FOLDER

All run the same uni-encoder (see `inference.py`) in float32 over the same padded micro-batches,
which the engine makes of the same texts and labels, in turns (A B A B ...). Each has
``--threads`` workers of one thread. ``package`` is what the engine does, ``transformers`` the
encoder's own forward pass, ``compile`` that one compiled by torch. What is not installed is left
out. Prints texts a second and, of each turn, how many times as fast as the package a runtime is;
and the largest difference of its logits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import (
    LABELS,
    SETS,
    make_checkpoint,
    make_engine,
    read_labels,
    read_texts,
    with_range,
)

from skgliclass.export import export_onnx

Batch = list[torch.Tensor]
Runtime = Callable[[Batch], np.ndarray]


def micro_batches(engine: Any, texts: list[str], labels: list[str]) -> list[Batch]:
    """Give the padded prompts that the engine runs, and where their labels are."""
    batches: list[Batch] = []
    to_inputs = engine.border.inputs

    def record(prompts: Any) -> dict[str, torch.Tensor]:
        inputs = to_inputs(prompts)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        places = ids.eq(engine.composer.label_id).nonzero()[:, 1]
        batches.append([ids, mask, places.view(len(ids), len(labels))])
        return inputs

    engine.border.inputs, engine.n_jobs = record, 1
    engine.logits(texts, labels)
    del engine.border.inputs
    return batches


def of_torch(model: Any, mode: Any) -> Runtime:
    def run(batch: Batch) -> np.ndarray:
        with mode():
            return model(*batch[:2]).logits.numpy()

    return run


def of_onnxruntime(path: Path) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [own.name for own in session.get_inputs()]

    def run(batch: Batch) -> np.ndarray:
        feed = dict(zip(names, (tensor.numpy() for tensor in batch), strict=True))
        return session.run(None, feed)[0]

    return run


def of_openvino(path: Path, n_threads: int) -> Runtime:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": n_threads,
        "NUM_STREAMS": n_threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(batch: Batch) -> np.ndarray:
        request = compiled.create_infer_request()
        return request.infer([tensor.numpy() for tensor in batch])[0].copy()

    return run


def make_runtimes(engine: Any, folder: Path, n_threads: int) -> dict[str, Runtime]:
    model = engine.loaded.network
    runtimes = {
        "package": of_torch(model, torch.inference_mode),
        # Outside inference mode the encoder runs as it is.
        "transformers": of_torch(model, torch.no_grad),
        "compile": of_torch(torch.compile(model, dynamic=True), torch.no_grad),
    }
    path = export_onnx(engine.loaded, folder / "onnx") / "model.onnx"
    if find_spec("onnxruntime"):
        runtimes["onnxruntime"] = of_onnxruntime(path)
    if find_spec("openvino"):
        runtimes["openvino"] = of_openvino(path, n_threads)
    return runtimes


def run_all(runtime: Runtime, batches: list[Batch], n_threads: int) -> list[np.ndarray]:
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(runtime, batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--texts", type=int, default=240)
    parser.add_argument("--labels", nargs="*", type=int, default=LABELS["uni-encoder"][:4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")

    texts = read_texts(args.data, args.sets, args.texts, 0)
    labels = read_labels(args.data, "clinc150")
    with tempfile.TemporaryDirectory() as name:
        make_checkpoint(Path(name))
        engine = make_engine(Path(name))
        runtimes = make_runtimes(engine, Path(name), args.threads)
        print(f"torch {torch.__version__}, {args.threads} threads, {len(texts)} texts, float32\n")
        others = [own for own in runtimes if own != "package"]
        titles = ["labels", "package, texts/s", *(f"x {own}" for own in others), "difference"]
        print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
        for k in args.labels:
            batches = micro_batches(engine, texts, labels[:k])
            print(f"| {k} | {measure(runtimes, batches, len(texts), args)} |", flush=True)


def measure(
    runtimes: dict[str, Runtime], batches: list[Batch], n_texts: int, args: argparse.Namespace
) -> str:
    """Time the runtimes in turns; what they compile for the first time is not counted."""
    expected, *others = (run_all(own, batches, args.threads) for own in runtimes.values())
    differences = [
        np.abs(one - two).max()
        for found in others
        for one, two in zip(found, expected, strict=True)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(args.turns):
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            run_all(runtime, batches, args.threads)
            seconds[name].append(time.perf_counter() - start)
    ours = np.asarray(seconds.pop("package"))
    cells = [f"{n_texts / np.median(ours):.0f}"]
    cells += [with_range(ours / np.asarray(own)) for own in seconds.values()]
    return " | ".join([*cells, f"{max(differences):.0e}"])


if __name__ == "__main__":
    main()
