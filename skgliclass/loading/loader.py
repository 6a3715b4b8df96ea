"""The one way from a model's name to the model, which a process loads once."""

from __future__ import annotations

from os import PathLike

import torch

from ..modeling.fields import MODEL_TYPE
from ..modeling.randomness import own_randomness
from .cache import ModelCache
from .embedded import embedded_architecture, load_embedded
from .loaded import LoadedModel, resolve_device, resolve_dtype
from .sources import EMBEDDED, Source, check_model, locate, read_whole
from .trial import check_runs
from .weights import described_errors

MODELS: ModelCache[LoadedModel] = ModelCache()
"""The models that this process has loaded."""


def load_model(
    model: str | PathLike[str],
    *,
    revision: str | None = None,
    architecture: str = "auto",
    device: str | int | torch.device = "auto",
    dtype: str = "auto",
    user: object | None = None,
    role: str = "model",
) -> LoadedModel:
    """Load a model, or give the one that this process has loaded before.

    Parameters
    ----------
    model : str or path
        ``"mini"``, a folder, or a hub id: of a GLiClass checkpoint, a sentence-transformers model
        or a plain encoder. A folder whose files changed is loaded again; a hub repository is
        looked up once a process.
    revision : str, optional
        The branch, tag or commit of a hub repository.
    architecture : str, default="auto"
        How a new GLiClass is built, one of ``SUPPORTED_ARCHITECTURES``; a checkpoint has its own.
    device : str, int or torch.device, default="auto"
        ``"auto"`` takes a GPU where there is one; a number is that of a GPU.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is float32 on a CPU and bfloat16 on a GPU that has it.
    user : object, optional
        For whom. The model stays in memory at least as long as the last user lives, or until it
        asks for another model in the same role.
    role : str, default="model"
        What the user needs it for.

    Returns
    -------
    LoadedModel

    Raises
    ------
    OSError
        If the model cannot be found.
    ValueError
        If its files are damaged, incomplete, unsafe or not supported.
    """
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    source = locate(model, revision)
    embedded = model == EMBEDDED
    # Whether it was asked for as the embedded model: the hub id of its backbone has the same files,
    # but means the backbone alone.
    key = (source, embedded, architecture, torch_device, torch_dtype)

    def load() -> LoadedModel:
        # Found again: what replaced the files meanwhile may be in another place.
        found = locate(model, revision)
        return _load(found, architecture, torch_device, torch_dtype, embedded)

    state = source.fingerprint()
    return MODELS.get(key, lambda: read_whole(model, revision, lambda _: load()), user, role, state)


def _load(
    source: Source, architecture: str, device: torch.device, dtype: torch.dtype, embedded: bool
) -> LoadedModel:
    # Building modules draws random numbers before the weights replace them.
    with own_randomness(0), described_errors(source):
        check_model(source)
        config = source.read_json("config.json") or {}
        # Imported where they are needed: the embedded model does not wait for transformers.
        if config.get("model_type") == MODEL_TYPE:
            from .checkpoints import load_checkpoint

            loaded = load_checkpoint(source, architecture, device, dtype)
        elif embedded and architecture in ("auto", embedded_architecture()):
            # Its files are those that were tried before: their hash says so.
            return load_embedded(source, device, dtype)
        else:
            from .backbones import load_backbone

            loaded = load_backbone(source, architecture, device, dtype)
        check_runs(loaded)
        return loaded
