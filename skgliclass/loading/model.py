"""The label-conditioned model as a transformers ``PreTrainedModel``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, cast, overload

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from ..files import replaced_folder
from ..modeling.architecture import Architecture
from ..modeling.architectures import make_network
from ..modeling.bi_encoder import BiEncoder
from ..modeling.config import GLiClassConfig, check_supported
from ..modeling.decoder_kv import DecoderKV, TextCache
from ..modeling.features import Scores
from ..modeling.fields import MODEL_TYPE, clean_fields, config_table
from ..modeling.heads import draw_weights
from ..modeling.losses import LossOptions, total_loss
from .sources import Source, check_no_adapter, locate, plain_name
from .weights import (
    Weight,
    check_complete,
    check_no_surplus,
    described_errors,
    load_pretrained,
    read_headers,
)

MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
)
"""What :meth:`GLiClassModel.save_pretrained` writes."""

_LAYER_WEIGHTS = "model.layer_wise_attention.W1.weight"
_SECOND_ENCODER = "model.label_encoder."
_WITHOUT_EFFECT = (
    "use_safetensors",
    "trust_remote_code",
    "weights_only",
    "proxies",
    "adapter_kwargs",
    "_from_auto",
    "_commit_hash",
)
_REFUSED = ("state_dict", "gguf_file", "variant", "key_mapping")
_ADAPTER_PLACES = ("revision", "token", "_commit_hash")
_HUB_OPTIONS = ("cache_dir", "token", "local_files_only", "force_download")


@dataclass
class GLiClassOutput(ModelOutput):
    """What a forward pass gives.

    Attributes
    ----------
    loss : Tensor of shape (), optional
        The focal loss, where targets were given.
    logits : Tensor of shape (batch, n_labels)
        The scores.
    text_embeddings : Tensor of shape (batch, width), optional
        The projected text vectors, on request; of shape (batch, length, width) where the scorer
        attends to all tokens.
    text_mask : Tensor of shape (batch, length), optional
        Which of those tokens count.
    class_embeddings : Tensor of shape (batch, n_labels, width) or (n_labels, width), optional
        The projected label vectors, on request.
    class_mask : Tensor of shape (batch, n_labels)
        Whether a column is a label of the row.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    text_embeddings: Tensor | None = None
    text_mask: Tensor | None = None
    class_embeddings: Tensor | None = None
    class_mask: Tensor | None = None


class GLiClassModel(PreTrainedModel):
    """A text classifier that reads its labels.

    Loads and saves checkpoints of the ``gliclass`` package: same configuration, same weights, same
    logits. Works with ``from_pretrained``, ``save_pretrained``, ``dtype``, ``device_map`` and
    ``attn_implementation`` as any transformers model does.

    Parameters
    ----------
    config : GLiClassConfig
        The configuration.

    Raises
    ------
    NotImplementedError
        If ``config.architecture_type`` is not supported.
    """

    config_class = GLiClassConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _keys_to_ignore_on_load_unexpected: tuple[str, ...] = (r"position_embeddings", r"position_ids")

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__(config)
        check_supported(config)
        self.model: Architecture = make_network(config)
        if config.share_encoders:
            self._keys_to_ignore_on_load_unexpected = (
                *self._keys_to_ignore_on_load_unexpected,
                # Files hold a shared encoder a second time, for the reference; nothing here reads
                # that.
                r"model\.label_encoder\.",
            )
        self.post_init()
        self._adopt_backbones()

    @classmethod
    def around(cls, network: Architecture, **fields: Any) -> GLiClassModel:
        """Give a model with a network that exists already, to write it or to train it elsewhere.

        Parameters
        ----------
        network : Architecture
            Shared, not copied.
        **fields
            Fields of the configuration in place of the network's own.
        """
        config: Any = network.config
        if isinstance(config, GLiClassConfig):
            config = copy.deepcopy(config)
        else:
            config = GLiClassConfig(**config_table(config))
        for name, value in fields.items():
            setattr(config, name, value)
        # What transformers needs to know of its own modules is worked out without their weights.
        with torch.device("meta"):
            model = cls(config)
        model.model = network
        return model

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; see :meth:`transformers.PreTrainedModel.from_pretrained`.

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            A hub id or a folder. Weights are read from safetensors files alone, and nothing that
            a checkpoint names is fetched or run.
        *args, **kwargs
            As for any transformers model.

        Raises
        ------
        OSError
            If there is no such model.
        ValueError
            If its files are damaged, incomplete, unsafe or belong to different checkpoints.
        """
        if pretrained_model_name_or_path is None:
            return super().from_pretrained(None, *args, **kwargs)
        _check_arguments(kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        source = _source(pretrained_model_name_or_path, kwargs)
        with described_errors(source):
            model, info = read_gliclass(cls, source, **kwargs)
        model.config.name_or_path = source.name
        return (model, info) if wants_info else model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        labels_mask: Tensor | None = None,
        labels: Tensor | None = None,
        max_num_classes: int | None = None,
        label_vectors: Tensor | None = None,
        output_text_embeddings: bool = False,
        output_class_embeddings: bool = False,
        return_dict: bool | None = None,
        **_: Any,
    ) -> GLiClassOutput | tuple[Tensor, ...]:
        """Score labels against texts; which arguments count depends on the architecture.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            Prompts or texts, padded on the right.
        class_input_ids, class_attention_mask : Tensor, optional
            The labels' side: of a bi-encoder the labels, (n_labels, length) or
            (batch, n_labels, length); of an encoder-decoder each text's labels, (batch, length).
        labels_mask : Tensor of shape (batch, n_labels), optional
            Zero where a bi-encoder's text has fewer labels.
        labels : Tensor of shape (batch, n_labels) or (batch,), optional
            Targets between 0 and 1, or each text's class, for the loss; -100 means no target.
        max_num_classes : int, optional
            How many columns to give where the labels are in the prompt.
        label_vectors : Tensor of shape (n_labels, width) or (batch, n_labels, width), optional
            What :meth:`encode_labels` gave, in place of a bi-encoder's `class_input_ids`.
        output_text_embeddings, output_class_embeddings : bool, default=False
            Whether to give the vectors too.
        return_dict : bool, optional
            False gives a tuple.
        """
        arguments = {
            "input_ids": input_ids,
            "attention_mask": _mask_of(input_ids, attention_mask),
            "max_num_classes": max_num_classes,
            "class_input_ids": class_input_ids,
            "class_attention_mask": _mask_of(class_input_ids, class_attention_mask),
            "labels_mask": labels_mask,
            "label_vectors": label_vectors,
        }
        inputs = {name: arguments[name] for name in self.model.inputs}
        scores, loss = self._scores_and_loss(inputs, labels)
        output = _as_output(scores, loss, output_text_embeddings, output_class_embeddings)
        return cast("tuple[Tensor, ...]", output.to_tuple()) if return_dict is False else output

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give a bi-encoder's text vectors, of shape (batch, width)."""
        return self._bi_encoder().encode_texts(input_ids, attention_mask)

    def encode_labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give the label vectors of a bi-encoder, fused or not, of shape (n_labels, width)."""
        return self._bi_encoder(fused=True).encode_labels(input_ids, attention_mask)

    def score_vectors(self, text_vectors: Tensor, label_vectors: Tensor) -> Tensor:
        """Compare a bi-encoder's vectors.

        Parameters
        ----------
        text_vectors : Tensor of shape (batch, width)
        label_vectors : Tensor of shape (n_labels, width) or (batch, n_labels, width)

        Returns
        -------
        Tensor of shape (batch, n_labels)
            The logits.
        """
        return self._bi_encoder().score_vectors(text_vectors, label_vectors)

    def read_text(self, input_ids: Tensor) -> TextCache:
        """Run a decoder-kv over one text, to score it with many label sets.

        Parameters
        ----------
        input_ids : Tensor of shape (1, length)
            The text with the ``<<SEP>>`` that ends it.

        Returns
        -------
        TextCache
            For :meth:`score_cached`, which does not change it.
        """
        return self._decoder().read_text(input_ids)

    def score_cached(
        self,
        cache: TextCache,
        class_input_ids: Tensor,
        class_attention_mask: Tensor | None = None,
        max_num_classes: int | None = None,
    ) -> GLiClassOutput:
        """Score label sets against a text that a decoder-kv has read.

        Parameters
        ----------
        cache : TextCache
            What :meth:`read_text` gave.
        class_input_ids, class_attention_mask : Tensor of shape (n_sets, length)
            What follows the text: each set's labels with their markers and the last ``<<SEP>>``,
            padded on the right.
        max_num_classes : int, optional
            How many columns to give; by default the most markers that a set has.

        Returns
        -------
        GLiClassOutput
            With one row for each label set, as :meth:`forward` gives it for the joined sequences.
        """
        mask = _mask_of(class_input_ids, class_attention_mask)
        scores = self._decoder().score_cached(cache, class_input_ids, mask, max_num_classes)
        return GLiClassOutput(logits=scores.logits, class_mask=scores.class_mask)

    @property
    def backbone(self) -> PreTrainedModel:
        """The pretrained model that reads the texts."""
        backbone: PreTrainedModel = self.model.backbone
        return backbone

    def get_input_embeddings(self) -> nn.Module:
        """Give the backbone's word embeddings."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the backbone's word embeddings."""
        self.backbone.set_input_embeddings(value)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Resize the backbone's word embeddings and note the size in the configuration."""
        embeddings = self.backbone.resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.config.encoder_config.vocab_size = embeddings.num_embeddings
        self.config.vocab_size = embeddings.num_embeddings
        return embeddings

    def save_pretrained(
        self, save_directory: Any, *, gliclass_compatible: bool = True, **kwargs: Any
    ) -> None:
        """Write a checkpoint, whole or not at all.

        Parameters
        ----------
        save_directory : str or path
            The folder; made if missing. Files of an earlier model in it are replaced, others stay.
        gliclass_compatible : bool, default=True
            Whether the ``gliclass`` package loads it, too, which takes the weights of an encoder
            that texts and labels share twice.
        **kwargs
            As in :meth:`transformers.PreTrainedModel.save_pretrained`.

        Raises
        ------
        OSError
            If the folder cannot be written; it is as it was.
        """
        kwargs["gliclass_compatible"] = gliclass_compatible
        # Where several processes write parts of one checkpoint, none of them can replace it.
        if kwargs.get("distributed_checkpoint") or not kwargs.get("is_main_process", True):
            self.write_files(save_directory, **kwargs)
            return
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        # The weights of several variants lie side by side.
        replaces = () if kwargs.get("variant") else MODEL_FILES
        with replaced_folder(save_directory, replaces) as folder:
            self.write_files(folder, **kwargs)

    def write_files(self, folder: Any, *, gliclass_compatible: bool = True, **kwargs: Any) -> None:
        """Write a checkpoint as :meth:`save_pretrained` does, one file after the other.

        Parameters
        ----------
        folder : path
            Where to.
        gliclass_compatible, **kwargs
            As in :meth:`save_pretrained`.
        """
        kwargs.setdefault("state_dict", self.checkpoint_state_dict(gliclass_compatible))
        super().save_pretrained(folder, **kwargs)

    def checkpoint_state_dict(self, gliclass_compatible: bool = True) -> dict[str, Tensor]:
        """Give the weights as a checkpoint holds them, for the ``gliclass`` package some twice."""
        state: dict[str, Tensor] = self.state_dict()
        if not gliclass_compatible:
            return state
        for second, name in self.model.duplicates().items():
            # A safetensors file cannot hold one tensor under two names.
            state[f"model.{second}"] = state[f"model.{name}"].clone()
        return state

    def _adopt_backbones(self) -> None:
        """Know what the backbones tie and keep: transformers only asks a model's own children."""
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)
        for module in self.modules():
            if isinstance(module, PreTrainedModel) and module is not self:
                self._no_split_modules |= set(module._no_split_modules or ())
                self._keep_in_fp32_modules |= set(module._keep_in_fp32_modules or ())

    def _bi_encoder(self, fused: bool = False) -> BiEncoder:
        if not isinstance(self.model, BiEncoder):
            raise TypeError("Only a bi-encoder has vectors for texts and labels apart.")
        if not (fused or self.model.encodes_labels_apart):
            raise TypeError(
                "A fused bi-encoder reads the labels with the text, so that it has no text vectors "
                "apart. Pass label_vectors to the model instead."
            )
        return self.model

    def _decoder(self) -> DecoderKV:
        if not isinstance(self.model, DecoderKV):
            raise TypeError("Only a decoder-kv keeps a text to score it with many label sets.")
        return self.model

    def _scores_and_loss(
        self, inputs: dict[str, Any], labels: Tensor | None
    ) -> tuple[Scores, Tensor | None]:
        if labels is None:
            return self.model(**inputs), None
        layers = self.model.training_scores(**inputs)
        return layers[-1], self._loss(layers, labels)

    def _loss(self, layers: list[Scores], labels: Tensor) -> Tensor:
        config, scores = self.config, layers[-1]
        if labels.dim() == 1:
            labels = _one_hot(labels, scores.logits.shape[1], config.ignore_index)
        options = LossOptions(
            # In the reference's files -1 means without.
            focal_gamma=max(0.0, float(config.focal_loss_gamma)),
            focal_alpha=None if config.focal_loss_alpha < 0 else float(config.focal_loss_alpha),
        )
        contrasts = self.model.has_contrastive_loss
        return total_loss(
            layers,
            labels.clamp(0, 1),
            options,
            multi_label=config.problem_type == "multi_label_classification",
            mask=scores.class_mask.bool() & labels.ne(config.ignore_index),
            contrastive_coef=config.contrastive_loss_coef if contrasts else 0.0,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # transformers calls it for what a checkpoint lacks, and leaves the rest alone.
        draw_weights(module, self.config.initializer_range)
        if isinstance(module, Architecture) and hasattr(module, "logit_scale"):
            scale = cast("Tensor", module.logit_scale)
            nn.init.constant_(scale, float(self.config.logit_scale_init_value))


@overload
def _mask_of(input_ids: Tensor, mask: Tensor | None) -> Tensor: ...
@overload
def _mask_of(input_ids: None, mask: Tensor | None) -> Tensor | None: ...
def _mask_of(input_ids: Tensor | None, mask: Tensor | None) -> Tensor | None:
    return torch.ones_like(input_ids) if mask is None and input_ids is not None else mask


def _as_output(
    scores: Scores, loss: Tensor | None, with_text: bool, with_classes: bool
) -> GLiClassOutput:
    return GLiClassOutput(
        loss=loss,
        logits=scores.logits,
        text_embeddings=scores.text_embeddings if with_text else None,
        text_mask=scores.text_mask if with_text else None,
        class_embeddings=scores.class_embeddings if with_classes else None,
        class_mask=scores.class_mask,
    )


def _one_hot(classes: Tensor, n_labels: int, ignored: int) -> Tensor:
    known = classes.ne(ignored)
    targets = torch.nn.functional.one_hot(classes.where(known, 0).long(), n_labels)
    return targets.where(known[:, None], ignored)


def read_gliclass(
    kind: type[GLiClassModel],
    source: Source,
    *,
    config: GLiClassConfig | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """Read the configuration and the weights of a GLiClass checkpoint.

    Parameters
    ----------
    kind : type
        The class to load.
    source : Source
        The files.
    config : GLiClassConfig, optional
        In place of that of the files.
    **options
        As for ``transformers.PreTrainedModel.from_pretrained``.

    Returns
    -------
    model : GLiClassModel
    info : dict
        What transformers tells about the loading.

    Raises
    ------
    ValueError
        If the configuration and the weights do not belong together.
    """
    weights = read_headers(source.weight_files())
    check_no_adapter(source)
    if config is None:
        config = _read_config(source, weights)
    if config.share_encoders:
        # Files hold a shared encoder a second time, for the reference.
        weights = {name: w for name, w in weights.items() if not name.startswith(_SECOND_ENCODER)}
    model, info = load_pretrained(_build, kind, config, weights, source, **options)
    check_complete(info, source)
    check_no_surplus(sorted(info["unexpected_keys"]), source)
    return model, info


def _build(kind: type[GLiClassModel], config: GLiClassConfig) -> GLiClassModel:
    return kind(config)


def _read_config(source: Source, weights: Mapping[str, Weight]) -> GLiClassConfig:
    table = source.read_json("config.json") or {}
    if table.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"model={source.name!r} is no GLiClass checkpoint: its config.json says that it is of "
            f"type {table.get('model_type')!r}. The estimators build a GLiClass around others."
        )
    fields = clean_fields(table, n_layers=len(weights))
    del fields["model_type"]
    config = GLiClassConfig(**fields)
    if config.squeeze_layers and config.n_squeezed_layers is None:
        # The shape of the network depends on it, and a checkpoint of the reference tells it by its
        # weights alone.
        stored = weights.get(_LAYER_WEIGHTS)
        config.n_squeezed_layers = stored.shape[-1] if stored else None
    return config


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse what would read or run something else than the named model's numbers."""
    if arguments.get("trust_remote_code"):
        raise ValueError("Code from checkpoints is never run; a GLiClassModel needs none.")
    if arguments.get("use_safetensors", True) is False:
        raise ValueError("use_safetensors=False: weights are read from safetensors files alone.")
    refused = [name for name in _REFUSED if arguments.get(name) is not None]
    # AutoModel says where it would look for an adapter, although nobody asked for one.
    if set(arguments.get("adapter_kwargs") or ()) - set(_ADAPTER_PLACES):
        refused.append("adapter_kwargs")
    for name in refused:
        raise ValueError(f"{name} has no effect: a GLiClassModel is read from its own files.")


def _source(name: str | PathLike[str], arguments: dict[str, Any]) -> Source:
    """Find the model, and take from the arguments of a call what says where."""
    revision, below = arguments.pop("revision", None), arguments.pop("subfolder", "")
    options = {n: arguments.pop(n) for n in _HUB_OPTIONS if n in arguments}
    for ignored in _WITHOUT_EFFECT:
        arguments.pop(ignored, None)
    source = locate(name, revision, **options)
    return (
        replace(source, folder=source.folder / plain_name(below, source.name)) if below else source
    )


# So that AutoConfig and AutoModel read a GLiClass checkpoint as they read any other; the gliclass
# package, imported before or after, registers nothing by this name.
AutoConfig.register(MODEL_TYPE, GLiClassConfig, exist_ok=True)
AutoModel.register(GLiClassConfig, GLiClassModel, exist_ok=True)
