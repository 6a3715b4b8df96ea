"""Tiny checkpoints to break, and how to break them."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import encoder_checkpoint, sentence_transformer

from skgliclass.loading.checkpoints import save_checkpoint
from skgliclass.loading.loader import load_model

TEXTS = ["One day I will see the world!"]
LABELS = ["travel", "sport"]


def make_checkpoints(folder: Path) -> dict[str, Path]:
    """Write one of each kind: a plain encoder, a sentence encoder, and GLiClass checkpoints."""
    encoder = encoder_checkpoint(folder / "encoder", n_layers=1)
    sentences = sentence_transformer(folder / "sentences", n_layers=1)
    save_checkpoint(folder / "uni", load_model(str(encoder), device="cpu"))
    save_checkpoint(folder / "bi", load_model(str(sentences), device="cpu"))
    _own_label_encoder(folder / "bi", folder / "apart")
    return {path.name: path for path in folder.iterdir()}


def _own_label_encoder(shared: Path, folder: Path) -> None:
    """Write a bi-encoder that reads labels with an encoder and a tokenizer of their own."""
    shutil.copytree(shared, folder)
    (folder / "label_tokenizer").mkdir()
    shutil.copy(folder / "tokenizer.json", folder / "label_tokenizer")
    change_json(folder / "config.json", share_encoders=False)


def change_json(path: Path, **fields) -> None:
    """Set fields of a JSON file; a dot is a field in a field."""
    table = json.loads(path.read_text())
    for name, value in fields.items():
        *outer, last = name.split("__") if not name.startswith("_") else [name]
        inner = table
        for part in outer:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(table))


def change_weights(folder: Path, change) -> None:
    """Let a function change the weights of a folder."""
    weights = load_file(folder / "model.safetensors")
    weights = {name: value.clone() for name, value in weights.items()}
    changed = change(weights)
    weights = changed if isinstance(changed, dict) else weights
    save_file(weights, folder / "model.safetensors")


def set_number(weights: dict[str, torch.Tensor], value: float) -> None:
    """Put one number into the largest weight."""
    largest = max(weights.values(), key=torch.numel)
    largest.view(-1)[largest.numel() // 2] = value


def header_of(path: Path) -> dict:
    """Read the header of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def change_header(path: Path, change) -> None:
    """Let a function change the header of a safetensors file, and leave the rest."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])
