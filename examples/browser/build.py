"""Gather the page, the model and what runs it in a folder of static files.

In examples/browser ``npm ci --ignore-scripts`` fetches what runs the model. Then, in the root::

    python examples/browser/build.py --output build/browser
    python -m http.server --directory build/browser
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from skgliclass.export import export_onnx

HERE = Path(__file__).parent
PAGE = ["index.html", "style.css", "page.js", "model.js"]
MODULES = HERE / "node_modules"
LIBRARIES = [
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "@huggingface/tokenizers/dist/tokenizers.min.mjs",
]
GRAPHS = ["texts.onnx", "labels.onnx", "scorer.onnx"]
# Smaller ones stay in the graphs.
LARGE = 10_000
ALIGNMENT = 64


class Weights:
    """The large weights of all graphs, each once, in 24 bits with a scale for each row.

    The page makes float32 of them again. With 16 bits probabilities differ by 2e-4, in float16 by
    5e-4.
    """

    def __init__(self) -> None:
        self.tensors: list[dict[str, int]] = []
        self.content = bytearray()
        self.n_bytes = 0
        self._offsets: dict[bytes, int] = {}

    def take(self, tensor: onnx.TensorProto) -> None:
        """Move the values of a tensor here, and leave in it where they are."""
        values = numpy_helper.to_array(tensor)
        key = values.tobytes()
        if key not in self._offsets:
            self._offsets[key] = self._add(values)
        place = {"location": "weights", "offset": self._offsets[key], "length": len(key)}
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for name, value in place.items():
            tensor.external_data.add(key=name, value=str(value))

    def _add(self, values: NDArray[np.float32]) -> int:
        rows = values.reshape(-1, values.shape[-1])
        scales = (np.abs(rows).max(axis=1, keepdims=True) / (2**23 - 1)).astype(np.float32)
        scales[scales == 0] = 1
        integers = np.rint(rows.astype(np.float64) / scales).astype("<i4")
        offset = self.n_bytes
        n_rows, n_columns = rows.shape
        self.tensors.append({"offset": offset, "rows": n_rows, "columns": n_columns})
        for part in (scales.astype("<f4"), integers.astype("<u2"), (integers >> 16).astype("i1")):
            self.content += part.tobytes()
            self.content += bytes(-len(self.content) % 4)
        self.n_bytes += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
        return offset


def build(output: Path, model: str = "mini") -> None:
    """Write the folder."""
    missing = [name for name in LIBRARIES if not (MODULES / name).is_file()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run npm ci --ignore-scripts in {HERE}")
    output.mkdir(parents=True, exist_ok=True)
    for file in [*(HERE / name for name in PAGE), *(MODULES / name for name in LIBRARIES)]:
        shutil.copy(file, output)
    with tempfile.TemporaryDirectory() as folder:
        exported = export_onnx(model, folder)
        settings: dict[str, Any] = json.loads((exported / "prompt.json").read_text("utf-8"))
        if settings["architecture"] != "bi-encoder":
            raise SystemExit(f"The page runs a bi-encoder, but {model} is another model.")
        # One for both in the embedded model.
        own = exported / "label_tokenizer.json"
        if own.is_file():
            raise SystemExit(f"The labels of {model} have a tokenizer of their own.")
        shutil.copy(exported / "tokenizer.json", output)
        weights = Weights()
        for name in GRAPHS:
            graph = onnx.load(exported / name)
            for tensor in graph.graph.initializer:
                is_float = tensor.data_type == onnx.TensorProto.FLOAT
                if is_float and np.prod(tensor.dims) >= LARGE:
                    weights.take(tensor)
            onnx.save(graph, output / name)
    (output / "weights.bin").write_bytes(weights.content)
    files = ["weights.bin", "tokenizer.json", *GRAPHS]
    sizes = {name: (output / name).stat().st_size for name in files}
    content = {**settings, "weights": weights.tensors, "n_bytes": weights.n_bytes, "sizes": sizes}
    (output / "model.json").write_text(json.dumps(content), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Build, and say how much a visitor downloads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("build/browser"))
    parser.add_argument("--model", default="mini", help="a bi-encoder: mini, a folder or a hub id")
    args = parser.parse_args(argv)
    build(args.output, args.model)
    n_bytes = sum(file.stat().st_size for file in args.output.iterdir())
    print(f"{n_bytes / 1e6:.0f} MB in {args.output}")


if __name__ == "__main__":
    main()
