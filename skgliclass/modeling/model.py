"""The label-conditioned model as a transformers ``PreTrainedModel``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput

from .bi_encoder import BiEncoder
from .config import SUPPORTED_ARCHITECTURES, GLiClassConfig
from .losses import focal_loss
from .uni_encoder import Scores, UniEncoder


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
        The projected text vectors, on request.
    class_embeddings : Tensor of shape (batch, n_labels, width) or (n_labels, width), optional
        The projected label vectors, on request.
    class_mask : Tensor of shape (batch, n_labels)
        Whether a column is a label of the row.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    text_embeddings: Tensor | None = None
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
        if config.architecture_type == "uni-encoder":
            self.model: UniEncoder | BiEncoder = UniEncoder(config)
        elif config.architecture_type == "bi-encoder":
            self.model = BiEncoder(config)
            if config.share_encoders:
                self._keys_to_ignore_on_load_unexpected = (
                    *self._keys_to_ignore_on_load_unexpected,
                    r"model\.label_encoder\.",
                )
        else:
            raise NotImplementedError(
                f"architecture_type={config.architecture_type!r} is not supported; "
                f"choose from {', '.join(SUPPORTED_ARCHITECTURES)}."
            )
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        class_input_ids: Tensor | None = None,
        class_attention_mask: Tensor | None = None,
        labels_mask: Tensor | None = None,
        labels: Tensor | None = None,
        max_num_classes: int | None = None,
        output_text_embeddings: bool = False,
        output_class_embeddings: bool = False,
        return_dict: bool | None = None,
        **_: Any,
    ) -> GLiClassOutput | tuple[Tensor, ...]:
        """Score labels against texts.

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (batch, length)
            Prompts with labels and text (uni-encoder) or texts (bi-encoder), padded on the right.
        class_input_ids, class_attention_mask : Tensor, optional
            A bi-encoder's labels, of shape (n_labels, length) or (batch, n_labels, length).
        labels_mask : Tensor of shape (batch, n_labels), optional
            Zero where a bi-encoder's text has fewer labels.
        labels : Tensor of shape (batch, n_labels), optional
            Targets between 0 and 1 for the loss; -100 means no target.
        max_num_classes : int, optional
            How many columns a uni-encoder gives; by default the most labels that a prompt holds.
        output_text_embeddings, output_class_embeddings : bool, default=False
            Whether to give the vectors too.
        return_dict : bool, optional
            False gives a tuple.

        Returns
        -------
        GLiClassOutput
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if isinstance(self.model, UniEncoder):
            scores = self.model(input_ids, attention_mask, max_num_classes)
        else:
            if class_input_ids is None:
                raise ValueError("A bi-encoder needs class_input_ids, the tokens of the labels.")
            if class_attention_mask is None:
                class_attention_mask = torch.ones_like(class_input_ids)
            scores = self.model(
                input_ids, attention_mask, class_input_ids, class_attention_mask, labels_mask
            )
        output = GLiClassOutput(
            loss=None if labels is None else self._loss(scores, labels),
            logits=scores.logits,
            text_embeddings=scores.text_embeddings if output_text_embeddings else None,
            class_embeddings=scores.class_embeddings if output_class_embeddings else None,
            class_mask=scores.class_mask,
        )
        return cast("tuple[Tensor, ...]", output.to_tuple()) if return_dict is False else output

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give a bi-encoder's text vectors, of shape (batch, width)."""
        return self._bi_encoder().encode_texts(input_ids, attention_mask)

    def encode_labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Give a bi-encoder's label vectors, of shape (n_labels, width)."""
        return self._bi_encoder().encode_labels(input_ids, attention_mask)

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

    def get_input_embeddings(self) -> nn.Module:
        """Give the text encoder's word embeddings."""
        return self.model.encoder_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the text encoder's word embeddings."""
        self.model.encoder_model.set_input_embeddings(value)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Resize the text encoder's word embeddings and note the size in the configuration."""
        embeddings = self.model.encoder_model.resize_token_embeddings(
            new_num_tokens, *args, **kwargs
        )
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

    def checkpoint_state_dict(self) -> dict[str, Tensor]:
        """Give the weights as a checkpoint holds them: with both encoders, even if shared."""
        state: dict[str, Tensor] = self.state_dict()
        if self.config.share_encoders and isinstance(self.model, BiEncoder):
            prefix, copy = "model.encoder_model.", "model.label_encoder."
            for name in [name for name in state if name.startswith(prefix)]:
                state[copy + name.removeprefix(prefix)] = state[name].clone()
        return state

    def _bi_encoder(self) -> BiEncoder:
        if not isinstance(self.model, BiEncoder):
            raise TypeError("Only a bi-encoder has vectors for texts and labels apart.")
        return self.model

    def _loss(self, scores: Scores, labels: Tensor) -> Tensor:
        alpha = self.config.focal_loss_alpha
        real = scores.class_mask.bool() & labels.ne(self.config.ignore_index)
        return focal_loss(
            scores.logits,
            labels.clamp(0, 1),
            multi_label=self.config.problem_type == "multi_label_classification",
            gamma=max(0.0, float(self.config.focal_loss_gamma)),
            alpha=None if alpha < 0 else float(alpha),
            mask=real,
        )

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
        elif isinstance(module, UniEncoder | BiEncoder):
            init.constant_(module.logit_scale, float(self.config.logit_scale_init_value))
