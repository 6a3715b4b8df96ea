"""Held-out texts and label sets on their way through scikit-learn's pipelines and searches."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny import reference_checkpoint
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
TRAIN = {"trainable": "head", "max_epochs": 1, "learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", pooling_strategy="avg")
    return str(folder)


@pytest.fixture(autouse=True)
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def upper(texts):
    return [text.upper() for text in texts]


def data(cls):
    return (toy if cls is GLiClassClassifier else toy_indicator)(9)


@pytest.mark.parametrize("cls", BOTH)
def test_a_pipeline_transforms_held_out_texts_and_hands_them_on(model, cls):
    X, y = data(cls)
    clf = cls(model, LABELS, **TRAIN)
    steps = [
        ("upper", FunctionTransformer(upper)),
        ("clf", clone(clf).set_fit_request(X_val=True, y_val=True)),
    ]
    pipeline = Pipeline(steps, transform_input=["X_val"]).fit(X, y, X_val=X[:4], y_val=y[:4])
    alone = clf.fit(upper(X), y, X_val=upper(X[:4]), y_val=y[:4])
    assert pipeline["clf"].validation_scores_ == alone.validation_scores_
    np.testing.assert_array_equal(pipeline.predict_proba(X), alone.predict_proba(upper(X)))


@pytest.mark.parametrize("cls", BOTH)
def test_a_search_hands_held_out_texts_to_every_fit(model, cls):
    X, y = data(cls)
    clf = cls(model, LABELS, **TRAIN).set_fit_request(X_val=True, y_val=True)
    pipeline = Pipeline(
        [("upper", FunctionTransformer(upper)), ("clf", clf)], transform_input=["X_val"]
    )
    search = GridSearchCV(pipeline, {"clf__label_template": [None, "the {}"]}, cv=2)
    search.fit(X, y, X_val=X[:4], y_val=y[:4])
    assert len(search.best_estimator_["clf"].validation_scores_) == 2
