"""The label-conditioned model as a transformers ``PreTrainedModel``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast, overload

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput

from .bi_encoder import BiEncoder
from .bi_encoder_fused import BiEncoderFused
from .config import GLiClassConfig, check_supported
from .decoder_kv import DecoderKV, TextCache
from .encoder_decoder import EncoderDecoder, EncoderDecoderCLS
from .features import Scores
from .joint import JointModel
from .losses import contrastive_loss, focal_loss
from .uni_encoder import UniEncoder

Architecture: TypeAlias = UniEncoder | BiEncoder | EncoderDecoder | EncoderDecoderCLS | DecoderKV

_ARCHITECTURES: dict[str, type[Architecture]] = {
    "uni-encoder": UniEncoder,
    "bi-encoder": BiEncoder,
    "bi-encoder-fused": BiEncoderFused,
    "encoder-decoder": EncoderDecoder,
    "encoder-decoder-cls": EncoderDecoderCLS,
    "decoder-kv": DecoderKV,
}
_LAYER_WEIGHTS = "model.layer_wise_attention.W1.weight"


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
        self.model: Architecture = _ARCHITECTURES[config.architecture_type](config)
        if config.share_encoders:
            self._keys_to_ignore_on_load_unexpected = (
                *self._keys_to_ignore_on_load_unexpected,
                r"model\.label_encoder\.",
            )
        self.post_init()
        self._adopt_backbones()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; see :meth:`transformers.PreTrainedModel.from_pretrained`.

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            A hub id or a folder.
        *args, **kwargs
            As for any transformers model.
        """
        folder = Path(pretrained_model_name_or_path)
        if kwargs.get("config") is None and folder.is_dir():
            config = GLiClassConfig.from_pretrained(folder)
            if config.squeeze_layers and config.n_squeezed_layers is None:
                config.n_squeezed_layers = _stored_layer_count(folder)
                kwargs["config"] = config
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

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
        """Score labels against texts.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            The text's side, padded on the right: prompts with labels and text (uni-encoder,
            decoder-kv), prompts with a marker for each label (bi-encoder-fused), or texts.
        class_input_ids, class_attention_mask : Tensor, optional
            The labels' side: of a bi-encoder the labels, (n_labels, length) or
            (batch, n_labels, length); of an encoder-decoder each text's labels with their markers,
            (batch, length).
        labels_mask : Tensor of shape (batch, n_labels), optional
            Zero where a bi-encoder's text has fewer labels.
        labels : Tensor of shape (batch, n_labels) or (batch,), optional
            Targets between 0 and 1, or each text's class, for the loss; -100 means no target.
        max_num_classes : int, optional
            How many columns to give where the labels are in the prompt; by default the most that
            one holds.
        label_vectors : Tensor of shape (n_labels, width) or (batch, n_labels, width), optional
            What :meth:`encode_labels` gave, in place of a bi-encoder's `class_input_ids`.
        output_text_embeddings, output_class_embeddings : bool, default=False
            Whether to give the vectors too.
        return_dict : bool, optional
            False gives a tuple.

        Returns
        -------
        GLiClassOutput
        """
        inputs = {
            "input_ids": input_ids,
            "attention_mask": _mask_of(input_ids, attention_mask),
            "max_num_classes": max_num_classes,
        }
        if not isinstance(self.model, UniEncoder | DecoderKV):
            inputs["class_input_ids"] = class_input_ids
            inputs["class_attention_mask"] = _mask_of(class_input_ids, class_attention_mask)
        if isinstance(self.model, BiEncoder):
            inputs |= {"labels_mask": labels_mask, "label_vectors": label_vectors}
        elif isinstance(self.model, EncoderDecoder | EncoderDecoderCLS) and class_input_ids is None:
            raise ValueError("An encoder-decoder needs class_input_ids, the tokens of the labels.")
        scores, loss = self._scores_and_loss(inputs, labels)
        output = GLiClassOutput(
            loss=loss,
            logits=scores.logits,
            text_embeddings=scores.text_embeddings if output_text_embeddings else None,
            text_mask=scores.text_mask if output_text_embeddings else None,
            class_embeddings=scores.class_embeddings if output_class_embeddings else None,
            class_mask=scores.class_mask,
        )
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
        backbone: PreTrainedModel = getattr(self.model, self.model.backbone_name)
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

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Write a checkpoint that the ``gliclass`` package loads too.

        Parameters
        ----------
        save_directory : str or path
            The folder; made if missing.
        **kwargs
            As in :meth:`transformers.PreTrainedModel.save_pretrained`.
        """
        kwargs.setdefault("state_dict", self.checkpoint_state_dict())
        super().save_pretrained(save_directory, **kwargs)

    def checkpoint_state_dict(
        self, weights: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Give the weights as a checkpoint holds them.

        A shared label encoder is written again under its own name, and so are the word embeddings
        that the halves of an encoder-decoder share: the ``gliclass`` package does not tie those
        of a decoder when it loads, and would start with random ones.

        Parameters
        ----------
        weights : mapping of str to Tensor, optional
            Weights in place of the model's own.
        """
        state: dict[str, Tensor] = self.state_dict()
        state.update(weights or {})
        if self.config.share_encoders and isinstance(self.model, BiEncoder):
            prefix, copy = "model.encoder_model.", "model.label_encoder."
            for name in [name for name in state if name.startswith(prefix)]:
                state[copy + name.removeprefix(prefix)] = state[name].clone()
        if isinstance(self.model, EncoderDecoder | EncoderDecoderCLS):
            for name, source in self.all_tied_weights_keys.items():
                state[name] = state[source].clone()
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
        if isinstance(self.model, BiEncoderFused) and not fused:
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
        if self.config.layer_wise and isinstance(self.model, UniEncoder):
            layers = [self.model.score(f) for f in self.model.layer_features(**inputs)]
            return layers[-1], torch.stack([self._loss(s, labels) for s in layers]).sum()
        scores = self.model(**inputs)
        return scores, self._loss(scores, labels)

    def _loss(self, scores: Scores, labels: Tensor) -> Tensor:
        config = self.config
        if labels.dim() == 1:
            labels = _one_hot(labels, scores.logits.shape[1], config.ignore_index)
        loss = focal_loss(
            scores.logits,
            labels.clamp(0, 1),
            multi_label=config.problem_type == "multi_label_classification",
            gamma=max(0.0, float(config.focal_loss_gamma)),
            alpha=None if config.focal_loss_alpha < 0 else float(config.focal_loss_alpha),
            mask=scores.class_mask.bool() & labels.ne(config.ignore_index),
        )
        # As in the `gliclass` package, only where the labels' vectors depend on the text.
        if config.contrastive_loss_coef > 0 and isinstance(self.model, JointModel):
            apart = contrastive_loss(scores.class_embeddings, scores.class_mask)
            loss = loss + config.contrastive_loss_coef * apart
        return loss

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if "bias" in name:
                    init.zeros_(parameter)
                else:
                    init.normal_(parameter, mean=0.0, std=std)
        elif isinstance(module, JointModel | BiEncoder):
            init.constant_(module.logit_scale, float(self.config.logit_scale_init_value))


@overload
def _mask_of(input_ids: Tensor, mask: Tensor | None) -> Tensor: ...
@overload
def _mask_of(input_ids: None, mask: Tensor | None) -> Tensor | None: ...
def _mask_of(input_ids: Tensor | None, mask: Tensor | None) -> Tensor | None:
    return torch.ones_like(input_ids) if mask is None and input_ids is not None else mask


def _one_hot(classes: Tensor, n_labels: int, ignored: int) -> Tensor:
    known = classes.ne(ignored)
    targets = torch.nn.functional.one_hot(classes.where(known, 0).long(), n_labels)
    return targets.where(known[:, None], ignored)


def _stored_layer_count(folder: Path) -> int | None:
    """Read from a checkpoint's weights how many layers ``squeeze_layers`` weighs."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            if _LAYER_WEIGHTS in weights.keys():  # noqa: SIM118
                return int(weights.get_slice(_LAYER_WEIGHTS).get_shape()[1])
    return None
