"""Label scores, or the model's representation of a text, as features for other estimators."""

from __future__ import annotations

from os import PathLike
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from typing_extensions import Self

from .base import BaseGLiClass
from .labels import LabelSet
from .parameters import store_parameters, with_parameters
from .state import FitState
from .targets import multi_label_targets, single_label_targets


@with_parameters
class GLiClassTransformer(TransformerMixin, BaseGLiClass):
    """Turn texts into label scores or embeddings.

    The features go beside others in a ``FeatureUnion`` or a ``ColumnTransformer``. No weight is
    trained; for scores of a fine-tuned model give as `model` the folder that a classifier's
    ``save_pretrained`` wrote.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes: sorted, or in the order given with `multi_label`. They are there without
        fitting when `labels` is given.

    See Also
    --------
    GLiClassClassifier : Its ``predict_proba`` gives the probabilities without `multi_label`.
    GLiClassMultiLabelClassifier : Its ``predict_proba`` gives those with `multi_label`.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.pipeline import FeatureUnion
    >>> from skgliclass import GLiClassTransformer
    >>> labels = GLiClassTransformer(labels=["travel", "cooking", "sport"])
    >>> labels.get_feature_names_out()
    array(['cooking', 'sport', 'travel'], dtype=object)
    >>> texts = ["The match went to extra time.", "Simmer the tomatoes for an hour."]
    >>> FeatureUnion([("words", TfidfVectorizer()), ("labels", labels)]).fit_transform(texts).shape
    (2, 14)
    """

    output: str
    multi_label: bool

    def __init__(
        self,
        model: str | PathLike[str] = "mini",
        labels: Any = None,
        *,
        output: str = "probabilities",
        multi_label: bool = False,
        architecture: str = "auto",
        revision: str | None = None,
        task_description: str | None = None,
        label_template: str | None = None,
        examples: Any = None,
        example_format: str = "marker",
        long_texts: str = "truncate",
        chunk_overlap: int = 32,
        chunk_pooling: str = "max",
        n_permutations: int = 1,
        shortlist: int | None = None,
        shortlist_model: str | PathLike[str] | None = None,
        hierarchy: str = "leaves",
        max_length: int | None = None,
        device: Any = "auto",
        dtype: str = "auto",
        n_jobs: int | None = None,
        verbose: int | None = None,
    ) -> None:
        store_parameters(self, locals())

    @property
    def _multi_label(self) -> bool:
        return self.multi_label

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the texts and, without ``labels=``, take the classes from `y`.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like, default=None
            The labels of the texts, in any form that the classifiers take; ignored where `labels`
            is given or the output is embeddings.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or a text is at fault, or there is nothing to take the classes from.
        """
        self._validate_params()
        self._texts(X, reset=True)
        if self._needs_labels():
            labels_parameter = self._read_labels(self.labels)
            label_set = labels_parameter or self._classes_of(y)
            if self.output == "probabilities":
                self._warn_of_one_class(label_set)
            self._fit_state = FitState(label_set, labels_parameter)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Give the features of the texts.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            A column for each class in the order of ``classes_``, or for each dimension of the
            embeddings. With :meth:`set_output` a frame.

        Raises
        ------
        NotFittedError
            If scores are asked for and there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a row is missing or not a text.
        """
        if not self._needs_labels():
            return self._text_vectors(X)
        scores = self._scores(X, snapshot=self._snapshot_with_labels())
        as_logits = self.output == "logits"
        features = scores.each(lambda of: of.logits if as_logits else of.probabilities)
        return cast("NDArray[np.float32]", features)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Give the names of the columns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Ignored; the names do not depend on that of the column of texts.

        Returns
        -------
        ndarray of shape (n_features,), object
            The classes, or ``embedding0``, ``embedding1`` and so on.
        """
        if self._needs_labels():
            classes = self._snapshot_with_labels().label_set.classes
            names = [str(value) for value in classes.tolist()]
        else:
            # The model alone knows how wide its representation is.
            width = self._engine(None).text_vectors(["a"]).shape[1]
            names = [f"embedding{i}" for i in range(width)]
        return np.asarray(names, dtype=object)

    def _needs_labels(self) -> bool:
        return self.output != "embeddings"

    def _classes_of(self, y: Any) -> LabelSet:
        if y is None:
            raise ValueError(
                "There are no labels to score: give labels=[...], or pass y to fit, or ask for "
                'output="embeddings".'
            )
        read = multi_label_targets if self.multi_label else single_label_targets
        return read(y, None).label_set

    def __sklearn_is_fitted__(self) -> bool:
        return not self._needs_labels() or super().__sklearn_is_fitted__()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = not self.__sklearn_is_fitted__()
        # By default it promises float64 for float64; texts become float32 whatever they come in.
        tags.transformer_tags.preserves_dtype = []
        return tags
