import json
import pickle

import hub as stand_in
import numpy as np
import pytest
import yaml
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassModel, GLiClassMultiLabelClassifier
from skgliclass.exceptions import UntrainedModelError

TEXTS, Y = toy(12)
# Of huggingface_hub's own upload of large files.
pytestmark = pytest.mark.filterwarnings("ignore:Use .content:DeprecationWarning")


@pytest.fixture(scope="module")
def uni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", n_layers=1)
    return str(folder)


@pytest.fixture(scope="module")
def bi(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("bi") / "backbone", n_layers=1))


@pytest.fixture(scope="module")
def served():
    with stand_in.running_hub() as hub:
        yield hub


@pytest.fixture
def hub(served, monkeypatch, tmp_path):
    """An empty stand-in for the hub, with a token that may write."""
    for held in (served.repositories, served.blobs, served.failures, served.calls):
        held.clear()
    stand_in.use(served, monkeypatch, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    return served


def front_matter(page):
    return yaml.safe_load(page.decode().split("---\n")[1])


@pytest.mark.parametrize("model", ["uni", "bi"])
def test_what_is_pushed_predicts_the_same_elsewhere(model, hub, request):
    model = request.getfixturevalue(model)
    clf = GLiClassClassifier(model, trainable="labels", task_description="About: ").fit(TEXTS, Y)
    url = clf.push_to_hub("ada/news")
    assert url.startswith(f"{hub.url}/ada/news/commit/")
    loaded = GLiClassClassifier.from_pretrained("ada/news")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=1e-6)
    assert loaded.get_params()["task_description"] == "About: "
    copied = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(copied.predict(TEXTS), loaded.predict(TEXTS))


def test_several_labels_and_trained_weights_go_along(uni, hub):
    clf = GLiClassMultiLabelClassifier(
        uni, LABELS, trainable="head", max_epochs=1, learning_rate=0.05, random_state=0
    )
    clf.fit(TEXTS, toy_indicator(12)[1]).push_to_hub("ada/several")
    loaded = GLiClassMultiLabelClassifier.from_pretrained("ada/several")
    np.testing.assert_array_equal(loaded.predict(TEXTS), clf.predict(TEXTS))
    assert "weights were trained further" in hub.files("ada/several")["README.md"].decode()


def test_a_name_alone_belongs_to_whose_token_it_is(uni, hub):
    GLiClassClassifier(uni, LABELS).push_to_hub("alone", private=True)
    assert list(hub.repositories) == ["ada/alone"]
    assert hub.repositories["ada/alone"].private
    assert 'from_pretrained("ada/alone")' in hub.files("ada/alone")["README.md"].decode()


def test_the_page_says_what_it_is_and_how_it_is_loaded(hub, bi, uni):
    labels = {0: "world\n# news", 1: "sport: {games}"}
    clf = GLiClassClassifier(bi, labels, n_retrieved=1)
    clf.fit(TEXTS, np.arange(12) % 2).push_to_hub("ada/page")
    files = hub.files("ada/page")
    page = files["README.md"].decode()
    fields = front_matter(files["README.md"])
    assert fields["library_name"] == "skgliclass"
    assert fields["pipeline_tag"] == "text-classification"
    # The model began in a folder, which is nobody else's business.
    assert "base_model" not in fields
    assert '    1: "sport: {games}"' in page
    for name in set(files) - {"README.md", ".gitattributes"}:
        assert f"`{name}`" in page
    GLiClassClassifier(uni).push_to_hub("ada/any")
    assert front_matter(hub.files("ada/any")["README.md"])["pipeline_tag"] == (
        "zero-shot-classification"
    )
    clf = GLiClassClassifier.from_pretrained("ada/any", labels=LABELS)
    clf.push_to_hub("ada/further")
    assert front_matter(hub.files("ada/further")["README.md"])["base_model"] == "ada/any"


def test_no_folder_of_this_machine_is_named(bi, hub, tmp_path):
    two = tmp_path / "two"
    reference_checkpoint(two, architecture_type="bi-encoder", n_layers=1)
    for name, model in {"ada/one": bi, "ada/two": str(two)}.items():
        clf = GLiClassClassifier(model, LABELS)
        clf.push_to_hub(name)
        config = json.loads(hub.files(name)["config.json"])
        assert not config["encoder_model_name"]
        assert config["label_model_name"] == ("ada/one" if name == "ada/one" else "")
        assert str(tmp_path).encode() not in b"".join(hub.files(name).values())
        loaded = GLiClassClassifier.from_pretrained(name)
        np.testing.assert_allclose(loaded.predict_proba(TEXTS), clf.predict_proba(TEXTS), atol=1e-6)


def test_rows_are_published_on_demand_alone(bi, hub):
    clf = GLiClassClassifier(bi, trainable="labels").fit(TEXTS, Y)
    clf.push_to_hub("ada/rows", keep_rows=True)
    assert "learnt_rows.safetensors" in hub.files("ada/rows")
    GLiClassClassifier.from_pretrained("ada/rows").partial_fit(TEXTS[:2], Y[:2])
    clf.push_to_hub("ada/rows")
    assert "learnt_rows.safetensors" not in hub.files("ada/rows")


def test_a_push_replaces_a_classifier_in_one_commit_and_keeps_what_is_the_users(uni, bi, hub):
    GLiClassClassifier(bi, n_retrieved=1).fit(TEXTS, Y).push_to_hub("ada/mine")
    for file in ("notes.txt", "model-00001-of-00002.safetensors", "label_tokenizer/vocab.txt"):
        hub.put("ada/mine", file, b"{}")
    n_commits = len(hub.titles("ada/mine"))
    first = GLiClassClassifier.from_pretrained("ada/mine")
    GLiClassClassifier(uni, ["x", "y"]).push_to_hub("ada/mine", commit_message="Only two")
    assert hub.titles("ada/mine")[n_commits:] == ["Only two"]
    names = set(hub.files("ada/mine"))
    assert {"notes.txt", "skgliclass.json", ".gitattributes"} <= names
    assert not [n for n in names if n.startswith(("model-", "retrieved", "label_tok", "learnt"))]
    # Looked up anew, in the process that loaded it before.
    assert GLiClassClassifier.from_pretrained("ada/mine").classes_.tolist() == ["x", "y"]
    assert len(first.classes_) == 3


def test_a_page_that_somebody_changed_stays(uni, hub):
    clf = GLiClassClassifier(uni, LABELS)
    clf.push_to_hub("ada/page")
    clf.set_params(labels=["x", "y"]).push_to_hub("ada/page")
    page = hub.files("ada/page")["README.md"]
    assert b'"x": "x"' in page
    hub.put("ada/page", "README.md", page.replace(b"A text classifier", b"Mine"))
    clf.set_params(labels=["v", "w"]).push_to_hub("ada/page")
    assert b"# Mine" in hub.files("ada/page")["README.md"]
    assert GLiClassClassifier.from_pretrained("ada/page").classes_.tolist() == ["v", "w"]


def test_branches_and_pull_requests(uni, hub):
    clf = GLiClassClassifier(uni, LABELS)
    clf.push_to_hub("ada/branches")
    two = GLiClassClassifier(uni, ["x", "y"])
    for _ in range(2):
        two.push_to_hub("ada/branches", revision="two", commit_description="For the two of us")
    three = GLiClassClassifier(uni, ["x", "y", "z"])
    url = three.push_to_hub("ada/branches", create_pr=True)
    assert url.endswith("/discussions/1")
    assert "Upload GLiClassClassifier\n\nFor the two of us" in hub.titles("ada/branches")

    def n_classes(revision):
        loaded = GLiClassClassifier.from_pretrained("ada/branches", revision=revision)
        assert loaded.predict_proba(TEXTS).shape[1] == len(loaded.classes_)
        return len(loaded.classes_), loaded.revision

    main = hub.repositories["ada/branches"].head("main")
    assert n_classes(None) == (3, None)
    assert n_classes("two") == (2, "two")
    assert n_classes(main) == (3, main)
    assert n_classes("refs/pr/1") == (3, "refs/pr/1")
    with pytest.raises(ValueError, match=r"revision='two' with create_pr"):
        clf.push_to_hub("ada/branches", revision="two", create_pr=True)


def test_a_private_repository_opens_with_a_token(uni, hub, monkeypatch):
    GLiClassClassifier(uni, LABELS).push_to_hub("ada/secret", private=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(OSError, match=r"'ada/secret'.*private.*token="):
        GLiClassClassifier.from_pretrained("ada/secret")
    loaded = GLiClassClassifier.from_pretrained("ada/secret", token="hf_reads")
    assert loaded.predict(TEXTS[:2]).shape == (2,)
    # A secret is no parameter, and in no pickle.
    assert b"hf_reads" not in pickle.dumps(loaded)
    assert "hf_reads" not in repr(loaded.get_params())


def test_the_last_copy_serves_where_the_hub_cannot_be_reached(uni, hub, monkeypatch):
    GLiClassClassifier(uni, LABELS).push_to_hub("ada/copy")
    GLiClassClassifier.from_pretrained("ada/copy")
    hub.failures["^/api/models"] = 503
    assert GLiClassClassifier.from_pretrained("ada/copy").classes_.tolist() == LABELS
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert GLiClassClassifier.from_pretrained("ada/copy").classes_.tolist() == LABELS


@pytest.mark.parametrize(
    ("token", "advice"),
    [
        (None, "there is no token.*hf auth login.*HF_TOKEN.*token="),
        (True, "there is no token.*hf auth login"),
        (False, "there is no token"),
        ("hf_reads", "may write to 'ada'"),
        ("hf_unknown", "the token does not allow it"),
    ],
)
def test_who_may_not_write_learns_what_to_do(uni, hub, monkeypatch, token, advice):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        OSError, match=rf"(?s)'ada/refused' could not be pushed: .*{advice}"
    ) as info:
        GLiClassClassifier(uni, LABELS).push_to_hub("ada/refused", token=token)
    assert "hf_" not in str(info.value).replace("hf_hub", "")
    assert not hub.repositories


def test_somebody_elses_repository_is_refused(uni, hub):
    with pytest.raises(OSError, match="may write to 'bob'"):
        GLiClassClassifier(uni, LABELS).push_to_hub("bob/news")


def test_without_the_hub_it_is_named_how_to_go_on(uni, hub, monkeypatch):
    clf = GLiClassClassifier(uni, LABELS)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"cannot be reached.*save_pretrained.*hf upload ada/far"):
        clf.push_to_hub("ada/far")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"HF_HUB_OFFLINE is set.*hf upload ada/far"):
        clf.push_to_hub("ada/far")


@pytest.mark.parametrize("place", ["/commit/", "/preupload/", r"\.git/info/lfs"])
def test_a_push_that_fails_leaves_what_was_there(uni, hub, place):
    GLiClassClassifier(uni, LABELS).push_to_hub("ada/whole")
    before = dict(hub.files("ada/whole"))
    hub.blobs.clear()
    hub.failures[place] = 412
    with pytest.raises(OSError, match="'ada/whole' could not be pushed: it was changed meanwhile"):
        GLiClassClassifier(uni, ["x", "y"]).push_to_hub("ada/whole")
    assert hub.files("ada/whole") == before


def test_what_cannot_be_saved_is_named_before_anything_is_sent(uni, hub, tmp_path):
    with pytest.raises(ValueError, match="repo_id='a/b/c' is no name"):
        GLiClassClassifier(uni, LABELS).push_to_hub("a/b/c")
    with pytest.raises(TypeError, match="random_state"):
        GLiClassClassifier(uni, LABELS, random_state=np.random.default_rng()).push_to_hub("ada/x")
    plain = encoder_checkpoint(tmp_path / "plain", n_layers=1)
    clf = GLiClassClassifier(plain, LABELS, architecture="uni-encoder")
    with pytest.raises(UntrainedModelError):
        clf.push_to_hub("ada/x")
    assert not hub.calls


def test_the_torch_model_is_pushed_by_transformers(uni, hub):
    GLiClassModel.from_pretrained(uni).push_to_hub("ada/torch")
    assert {"config.json", "model.safetensors"} <= set(hub.files("ada/torch"))
    model = GLiClassModel.from_pretrained("ada/torch")
    assert model.config.architecture_type == "uni-encoder"
