"""The configuration of a GLiClass model, in the format of the ``gliclass`` package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto import CONFIG_MAPPING, modeling_auto

from ..prompts.architectures import DECODERS, SUPPORTED_ARCHITECTURES
from .fields import DEFAULTS, EXTENSIONS, MODEL_TYPE, check_fields, clean_fields

TEXT_MODELS = frozenset().union(
    modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)
"""The types of backbone that read texts: others bring roads of their own to files and packages."""

_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "multimodal": (False, "only text is read"),
    "scorer_full_sequence": (False, "the gliclass package names it but does not compute it"),
    "recurrent_steps": (1, "the scorer makes one step"),
    "use_calibrator": (
        False,
        "set it to false in config.json to load the model with its uncalibrated scores",
    ),
}


class GLiClassConfig(PretrainedConfig):
    """Describe a GLiClass model.

    Every field of the ``gliclass`` package is read and written under its name; those that this
    package does not use are kept. The ones that matter most:

    Parameters
    ----------
    encoder_config : PretrainedConfig or dict
        The backbone's configuration.
    encoder_model_name : str
        The backbone's name.
    label_model_config, label_model_name
        The same for the label encoder of a bi-encoder.
    architecture_type : str, default="uni-encoder"
        How labels and text meet:

        ``"uni-encoder"``: one encoder reads the labels and the text.
        ``"bi-encoder"``: texts and labels are encoded apart and compared.
        ``"bi-encoder-fused"``: labels are encoded apart, and their vectors are read with the text.
        ``"encoder-decoder"``: the encoder reads the text, the decoder the labels.
        ``"encoder-decoder-cls"``: the encoder reads the labels, the decoder the text.
        ``"decoder-kv"``: a causal language model reads the text, then the labels.
    class_token_index, text_token_index, example_token_index : int
        The ids of ``<<LABEL>>``, ``<<SEP>>`` and ``<<EXAMPLE>>``; -1 means the first ids after
        the vocabulary.
    hidden_size : int, optional
        The width inside the projections; by default the backbone's.
    pooling_strategy : str, default="first"
        How the text's token vectors become one: ``first``, ``last``, ``avg``, ``max``, ``sum``,
        ``rms``, ``abs_max``, ``abs_avg``, or ``pass`` for a scorer that attends to all of them.
    class_token_pooling : {"first", "average"}, default="first"
        Take a label's marker, or the mean of the label's tokens.
    scorer_type : {"simple", "weighted-dot", "mlp", "hopfield", "cross-attn"}, default="simple"
        How a text and a label are compared.
    prompt_first : bool, default=False
        Whether the labels come before the text.
    use_lstm : bool, default=False
        Read the text's token vectors once more with an LSTM before pooling.
    encoder_layer_id : int, default=-1
        Which of a uni-encoder's hidden states the heads work on; 0 is the embeddings.
    squeeze_layers : bool, default=False
        Whether they work on a weighted sum of a uni-encoder's hidden states.
    layer_wise : bool, default=False
        Whether a uni-encoder's loss is summed over its hidden states.
    contrastive_loss_coef : float, default=0
        How much a loss counts that keeps the label vectors of a text apart.
    normalize_features : bool, default=False
        Compare vectors of length one, and multiply the logits by a learnt scale.
    logit_bias : float, optional
        Added to every logit. An extension: the ``gliclass`` package ignores it.
    share_encoders : bool, default=False
        Whether a bi-encoder encodes labels with the text encoder itself. An extension: the
        ``gliclass`` package loads the same weights twice.
    n_squeezed_layers : int, optional
        How many hidden states ``squeeze_layers`` weighs; by default all, with the embeddings. An
        extension: a checkpoint of the ``gliclass`` package shows it by its weights.
    scorer_encoder_num_layers : int, default=2
        The layers of a decoder-kv's scorer.
    sep_token_index : int, optional
        The id that ends a decoder-kv's text and labels; by default that of ``<<SEP>>``.
    max_prompt_length : int, optional
        The longest prompt in tokens that the model was made for, where the backbone could read a
        longer one. An extension.
    """

    model_type = MODEL_TYPE
    is_composition = True
    sub_configs: ClassVar[dict[str, Any]] = {
        "encoder_config": AutoConfig,
        "label_model_config": AutoConfig,
    }

    def __init__(
        self,
        encoder_config: PretrainedConfig | dict[str, Any] | None = None,
        encoder_model_name: str | None = None,
        label_model_config: PretrainedConfig | dict[str, Any] | None = None,
        label_model_name: str | None = None,
        **fields: Any,
    ) -> None:
        # The reference's own constructor calls the name `encoder_model`.
        encoder_model_name = encoder_model_name or fields.pop("encoder_model", None)
        # Not what the file says: the backbone's own, set below, is the one that its sequences have.
        fields.pop("pad_token_id", None)
        values = {
            name: fields.pop(name, default) for name, default in {**DEFAULTS, **EXTENSIONS}.items()
        }
        check_fields(values)
        self.encoder_config = backbone_config(encoder_config)
        if values["architecture_type"] in DECODERS:
            # A multimodal model's configuration holds that of its language model.
            self.encoder_config = self.encoder_config.get_text_config()
        # The reference makes a path of it on loading, so that it has to be a string.
        self.encoder_model_name = encoder_model_name or ""
        self.label_model_config: Any = (
            backbone_config(label_model_config) if label_model_name is not None else None
        )
        self.label_model_name = label_model_name
        fields = _without_methods(type(self), clean_fields(fields))
        problem_type = values.pop("problem_type")
        for name, value in _resolved(values, self.encoder_config).items():
            setattr(self, name, value)
        super().__init__(problem_type=problem_type, **fields)
        self.pad_token_id = getattr(self.encoder_config, "pad_token_id", None)

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as they are written, without extensions that are not in use."""
        fields: dict[str, Any] = super().to_dict()
        for name, default in EXTENSIONS.items():
            if fields.get(name) == default:
                fields.pop(name, None)
        return fields


def check_supported(config: GLiClassConfig) -> None:
    """Refuse a configuration that asks for what this package does not compute.

    Raises
    ------
    NotImplementedError
        If the architecture or an option is not supported.
    """
    if config.architecture_type not in SUPPORTED_ARCHITECTURES:
        raise NotImplementedError(
            f"architecture_type={config.architecture_type!r} is not supported; "
            f"choose from {', '.join(SUPPORTED_ARCHITECTURES)}."
        )
    for name, (supported, reason) in _UNSUPPORTED.items():
        value = getattr(config, name, supported)
        if value != supported:
            raise NotImplementedError(f"{name}={value!r} is not supported: {reason}.")


def _resolved(values: dict[str, Any], backbone: PretrainedConfig) -> dict[str, Any]:
    """Put in what follows from the backbone or from other fields."""
    for name in ("hidden_size", "vocab_size"):
        if values[name] is None:
            values[name] = getattr(backbone, name)
    for i, name in enumerate(("class_token_index", "text_token_index", "example_token_index")):
        if values[name] == -1:
            values[name] = values["vocab_size"] + i
    if values["architecture_type"] in DECODERS and values["sep_token_index"] is None:
        values["sep_token_index"] = values["text_token_index"]
    return values


def backbone_config(config: PretrainedConfig | Mapping[str, Any] | None) -> PretrainedConfig:
    """Make a backbone's configuration of what a file says.

    Parameters
    ----------
    config : PretrainedConfig or mapping, optional
        One that is ready is given back.

    Raises
    ------
    ValueError
        If it is not of a type of text model that transformers itself knows.
    """
    if isinstance(config, PretrainedConfig):
        return config
    if not isinstance(config, Mapping | None):
        raise ValueError(f"A backbone's configuration is an object, not {config!r}.")
    fields = clean_fields(config or {})
    model_type = fields.pop("model_type", "deberta-v2")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"The checkpoint's backbone is of type {model_type!r}, which transformers does not "
            "know. Code from checkpoints is never run; update transformers if the type is newer."
        )
    if model_type not in TEXT_MODELS:
        raise ValueError(f"The checkpoint's backbone is a {model_type!r}, which reads no texts.")
    kind = CONFIG_MAPPING[model_type]
    backbone: PretrainedConfig = kind(**_without_methods(kind, fields))
    return backbone


def _without_methods(kind: type[PretrainedConfig], fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out fields that would take the place of what a configuration can do."""
    return {name: value for name, value in fields.items() if not callable(getattr(kind, name, 0))}
