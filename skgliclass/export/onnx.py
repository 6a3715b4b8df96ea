"""Write models for runtimes other than torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from ..engine.change import LogitChange
from ..engine.engine import Engine
from ..estimators.hierarchy import Hierarchy
from ..estimators.persistence import FILE as SAVED_FILE
from ..estimators.persistence import read_change, read_content
from ..estimators.saved_file import labels_of
from ..estimators.scoring import word_label
from ..exceptions import UntrainedModelError, missing_extra, warn
from ..files import checked_folder, replaced_folder
from ..loading.loaded import LoadedModel
from ..loading.loader import load_model
from ..loading.sources import find_source
from ..prompts.tokens import PieceTokenizer
from .graphs import AddedChange, Graph, make_graphs

FILE = "prompt.json"
# What an export may hold, so that nothing of an earlier one stays beside it.
_FILES = (
    *("model.onnx*", "texts.onnx*", "labels.onnx*", "scorer.onnx*"),
    *("tokenizer.json", "label_tokenizer.json", FILE, SAVED_FILE),
)
_FORMAT = 1
_OPSET = 18  # the exporter's own; any other it would have to convert to


_EXPORTING = Lock()


def export_onnx(
    model: str | Path | LoadedModel, folder: str | Path, *, revision: str | None = None
) -> Path:
    """Write a model as ONNX, with what is needed to run it without this package or torch.

    Parameters
    ----------
    model : str, path or LoadedModel
        ``"mini"``, a hub id or a folder, also of a saved classifier; or a model that is loaded
        already, in float32 on the CPU.
    folder : str or path
        Where to; made if missing. It gets ``model.onnx`` (of a bi-encoder ``texts.onnx``,
        ``labels.onnx`` and ``scorer.onnx``), ``tokenizer.json`` (and ``label_tokenizer.json`` where
        labels have one of their own), and ``prompt.json``, which says how to build the inputs; of a
        saved classifier also ``skgliclass.json``, with its classes, temperature and thresholds.
        Where ``fit`` learnt for these classes without touching the model, the graphs add it, and
        take just these classes in their order.
    revision : str, optional
        The branch, tag or commit of a hub repository.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ImportError
        If ``onnx`` or ``onnxscript`` is not installed.
    TypeError
        If `model` is none of these, such as a classifier that is not saved.
    ValueError
        If the model is not in float32 on the CPU.
    NotImplementedError
        If the model's architecture cannot be exported.
    UntrainedModelError
        If the model has no trained heads.
    OSError
        If the folder cannot be written; an earlier export in it is as it was.

    Warns
    -----
    UserWarning
        If a saved classifier puts labelled texts in the prompt, or has them vote, which the graphs
        do not.
    """
    _check_installed()
    checked_folder(folder)
    saved = change = None
    if isinstance(model, str | Path):
        saved = read_content(model, revision)
        if saved is not None:
            change = read_change(saved, find_source(model, revision))
        model = load_model(model, revision=revision, device="cpu", dtype="float32")
    _check_exportable(model)
    with replaced_folder(folder, _FILES) as written:
        _write_export(written, model, saved, change)
    if saved is not None:
        _warn_of_examples(saved)
    return Path(folder)


def _write_export(
    folder: Path,
    model: LoadedModel,
    saved: Mapping[str, Any] | None,
    change: LogitChange | None,
) -> None:
    content = None if saved is None else _as_graphs_read(saved, folder / SAVED_FILE)
    added = None
    if change is not None and saved is not None:
        tree = _tree_of(saved, folder / SAVED_FILE)
        change = change if tree is None else change.of_texts(tree.texts)
        added = AddedChange(*map(torch.from_numpy, (change.vectors, change.biases)))
    for name, graph in make_graphs(model.network, added).items():
        _write_graph(graph, folder / f"{name}.onnx")
    _write_json(folder / FILE, _description(model))
    model.raw_text_tokenizer.save(str(folder / "tokenizer.json"))
    # One object under both names, unless labels are read by another tokenizer.
    if model.raw_label_tokenizer is not model.raw_text_tokenizer:
        model.raw_label_tokenizer.save(str(folder / "label_tokenizer.json"))
    if content is not None:
        _write_json(folder / SAVED_FILE, content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_graphs_read(saved: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Give label texts as the graphs are to read them, so that who runs them needs no template.

    Where the scores of classes are made along a hierarchy, its branches are read, too.
    """
    template = saved["parameters"].get("label_template")
    texts = saved["label_texts"]
    content = {
        **saved,
        "label_texts": None if texts is None else [word_label(text, template) for text in texts],
        "parameters": {**saved["parameters"], "label_template": None},
    }
    tree = _tree_of(saved, path)
    if tree is not None:
        content["nodes"] = {
            "label_texts": [word_label(text, template) for text in tree.texts],
            "parents": tree.parents.tolist(),
            "classes": tree.leaves.tolist(),
        }
    return content


def _tree_of(saved: Mapping[str, Any], path: Path) -> Hierarchy | None:
    """Give the hierarchy along which scores are made, where they are."""
    texts = saved["label_texts"]
    is_path = saved["parameters"].get("hierarchy") == "path"
    return Hierarchy.of(labels_of(saved, path), texts) if is_path and texts else None


def _warn_of_examples(saved: Mapping[str, Any]) -> None:
    names = [name for name in ("examples", "n_retrieved") if saved["parameters"].get(name)]
    if saved["keeps_votes"] and "n_retrieved" in names:
        names.remove("n_retrieved")
        if saved["vote_share"] != 0:
            warn(
                "The classifier was saved with n_retrieved, but the graphs give the scores of "
                "labels alone, without the votes of the labelled texts, with which the temperature "
                "and the thresholds were tuned. Export one that was fitted with n_retrieved=0."
            )
    if names:
        warn(
            f"The classifier was saved with {' and '.join(names)}, but what runs the graphs has to "
            "put labelled texts in the prompt itself."
        )


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(missing_extra("Exporting to ONNX", "onnx onnxscript", "onnx")) from error


def _check_exportable(loaded: LoadedModel) -> None:
    if not isinstance(loaded, LoadedModel):
        raise TypeError(
            f"model is a {type(loaded).__name__}, but what is exported is the name or folder of a "
            "model. Save it with save_pretrained(folder), and export that folder."
        )
    network = loaded.network
    if network.device.type != "cpu" or network.dtype != torch.float32:
        raise ValueError(
            f"The model is in {str(network.dtype).removeprefix('torch.')} on {network.device}; "
            'load it with device="cpu" and dtype="float32" to export it.'
        )
    if not loaded.zero_shot:
        raise UntrainedModelError(
            f"model={loaded.name!r} is an encoder without trained classification heads, so its "
            "predictions would be arbitrary. Fit a classifier, save it, and export that folder."
        )


# The graphs.


def _write_graph(graph: Graph, path: Path) -> None:
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamic_shapes=tuple(dict(graph.axes[name]) for name in graph.inputs),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    _forget_origin(program.model)
    program.save(path)


def _forget_origin(model: Any) -> None:
    """Drop the stack traces that the exporter notes with every node: they hold paths."""
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            node.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user's screen what the exporter says about itself."""
    exporter = logging.getLogger("torch.onnx")
    # Level and filters belong to all threads: of two at once, the one that begins in the other
    # would leave them as it found them, which is silent.
    with _EXPORTING:
        level = exporter.level
        exporter.setLevel(logging.ERROR)
        try:
            # It speaks through warnings, too.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            exporter.setLevel(level)


# How to build the inputs.


def _description(loaded: LoadedModel) -> dict[str, Any]:
    engine, config = Engine(loaded), loaded.network.config
    content = {
        "format": _FORMAT,
        "architecture": config.architecture_type,
        "problem_type": config.problem_type,
        "max_length": engine.max_length,
        "text": _tokenization(loaded.text_tokenizer, config.encoder_config),
        "prompt": engine.composer.rules(),
    }
    if loaded.network.has_label_encoder:
        label = _tokenization(loaded.label_tokenizer, config.label_model_config)
        limit = loaded.label_position_limit
        label["max_length"] = min(engine.max_length, limit or engine.max_length)
        content["label"] = label
    return content


def _tokenization(tokenizer: PieceTokenizer, backbone: Any) -> dict[str, Any]:
    return {
        **tokenizer.rules(),
        # Where a backbone names none, any id does: the attention mask hides it.
        "pad_id": int(getattr(backbone, "pad_token_id", None) or 0),
    }
