"""What examples/serve.py answers to real HTTP clients."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from tiny import reference_checkpoint
from toy import LABELS, toy

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

pytestmark = pytest.mark.needs("fastapi", "uvicorn", "prometheus_client")
SCRIPT = Path(__file__).parents[1] / "examples" / "serve.py"
TEXTS = toy(12)[0]


@pytest.fixture(scope="module")
def serve():
    spec = spec_from_file_location("serve", SCRIPT)
    module = sys.modules["serve"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["serve"]


@pytest.fixture(scope="module")
def clf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uni")
    reference_checkpoint(folder, prompt_first=True, scorer_type="mlp", n_layers=1)
    return GLiClassClassifier.from_pretrained(folder, labels=LABELS)


@contextmanager
def served(serve, clf, **limits):
    """Serve a classifier in a thread until the end of the block; give its port and the server."""
    import uvicorn

    app = serve.create_app(clf, serve.Limits(**limits))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        port = listener.getsockname()[1]
        try:
            wait_until(lambda: server.started)
            yield port, server
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port(serve, clf):
    with served(serve, clf, max_bytes=20_000, max_texts=20, max_labels=5, max_characters=100) as (
        port,
        _,
    ):
        yield port


def wait_until(is_so, seconds=300):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def send(port, body, path="/classify", method="POST", headers=None):
    """Give the status and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = headers or {"Content-Type": "application/json"}
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        answer = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(answer) if is_json else answer.decode()
    finally:
        connection.close()


def get(port, path):
    return send(port, None, path, "GET")


def probabilities(answer):
    return {score["label"]: score["probability"] for score in answer["scores"]}


def check_answers(clf, texts, answers):
    assert [a["predicted"] for a in answers] == [[name] for name in clf.predict(texts)]
    expected = clf.predict_frame(texts)
    got = [[probabilities(a)[name] for name in expected.columns] for a in answers]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_it_answers_as_the_classifier(port, clf):
    status, content = send(port, {"texts": TEXTS})
    assert status == 200
    check_answers(clf, TEXTS, content["answers"])
    status, content = send(port, {"texts": TEXTS[:2], "k": 1})
    assert [len(answer["scores"]) for answer in content["answers"]] == [1, 1]


@pytest.mark.parametrize("labels", [["fox", "day"], {"fox": "an animal", "day": "a time"}])
def test_a_request_may_bring_its_labels(port, clf, labels):
    status, content = send(port, {"texts": TEXTS[:3], "labels": labels})
    assert status == 200
    other = GLiClassClassifier.from_pretrained(clf.model, labels=labels)
    check_answers(other, TEXTS[:3], content["answers"])


def test_several_labels_a_text(serve, clf):
    several = GLiClassMultiLabelClassifier.from_pretrained(clf.model, labels=LABELS)
    several.threshold = np.median(several.predict_proba(TEXTS)).item()
    with served(serve, several) as (port, _):
        _, content = send(port, {"texts": TEXTS})
    got = [set(answer["predicted"]) for answer in content["answers"]]
    assert got == [set(names) for names in several.predict_labels(TEXTS)]
    assert len({len(names) for names in got}) > 1


def test_many_clients_at_a_time_share_calls_and_get_their_own(serve, clf):
    with served(serve, clf, batch_wait=0.05) as (port, _), ThreadPoolExecutor(64) as clients:
        texts = [f"{TEXTS[i % 12]} {i}" for i in range(64)]
        own = [None if i % 3 else LABELS[:2] for i in range(64)]
        asked = [
            {"texts": [text], **({} if labels is None else {"labels": labels})}
            for text, labels in zip(texts, own, strict=True)
        ]
        got = list(clients.map(lambda body: send(port, body), asked))
        assert {status for status, _ in got} == {200}
        answers = [content["answers"][0] for _, content in got]
        expected = clf.predict(texts, labels=[labels or LABELS for labels in own])
        assert [answer["predicted"] for answer in answers] == [[name] for name in expected]
        assert 0 < metric(port, "skgliclass_batch_texts_count") < 32
        assert metric(port, "skgliclass_texts_total") == 64
        assert metric(port, 'skgliclass_requests_total{status="200"}') == 64
        assert metric(port, "skgliclass_waiting_texts") == 0


def metric(port, name):
    _, text = get(port, "/metrics")
    (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[-1])


WRONG = {
    "no JSON": (b'{"texts": [', "JSON"),
    "no object": ([1, 2], "valid dictionary or object"),
    "nothing": (b"", "required"),
    "no texts": ({}, "texts: Field required"),
    "none": ({"texts": []}, "texts: List should have at least 1 item"),
    "a string": ({"texts": "a"}, "texts: Input should be a valid list"),
    "a number": ({"texts": ["a", 5]}, r"texts[1]: Input should be a valid string"),
    "null": ({"texts": ["a", "b", None]}, "texts[2]: Input should be a valid string"),
    "half a character": (
        b'{"texts": ["a", "\\ud800"]}',
        "texts[1] is not valid Unicode",
    ),
    "a long text": ({"texts": ["a", "b" * 101]}, "texts[1]: 101 characters; at most 100"),
    "many texts": ({"texts": ["a"] * 21}, "texts: 21 of them; at most 20"),
    "a word too much": ({"texts": ["a"], "treshold": 1}, "treshold: Extra inputs"),
    "no labels": ({"texts": ["a"], "labels": []}, "labels"),
    "one string": ({"texts": ["a"], "labels": "x"}, "labels: Input should be a valid list"),
    "a label twice": ({"texts": ["a"], "labels": ["x", "x"]}, "labels[1] repeats labels[0]: 'x'"),
    "a label of numbers": ({"texts": ["a"], "labels": ["x", 2]}, "labels[1]: Input should be"),
    "no meaning": ({"texts": ["a"], "labels": {"x": "y", "z": None}}, "labels['z']: Input should"),
    "many labels": ({"texts": ["a"], "labels": list("abcdef")}, "labels: 6 of them; at most 5"),
    "a long label": ({"texts": ["a"], "labels": ["x", "y" * 101]}, "labels[1]: 101 characters"),
    "an empty label": ({"texts": ["a"], "labels": ["x", " "]}, "labels[1]"),
    "k": ({"texts": ["a"], "k": 0}, "k: Input should be greater"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(port, name):
    body, message = WRONG[name]
    status, content = send(port, body)
    assert status == 422
    assert message in content["detail"]
    assert len(content["detail"]) < 1000


def test_requests_that_are_too_large_are_refused_before_they_are_read(port):
    status, content = send(port, {"texts": ["a" * 30_000]})
    assert (status, content["detail"]) == (413, "The request has more than 20000 bytes.")
    chunks = iter([b'{"texts": ["'] + [b"a" * 1000] * 30)
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/classify", chunks, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    # Of what says to be a gigabyte nothing is waited for.
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        raw.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        assert b" 413 " in raw.recv(1000)
    status, _ = send(port, b'{"texts": ' + b"[" * 15_000)
    assert 400 <= status < 500
    assert send(port, {"texts": ["a"]})[0] == 200


def test_what_is_wrong_with_one_request_is_no_matter_of_others(serve, clf):
    wrong = {"texts": ["a"], "labels": ["x", "x"]}
    with served(serve, clf, batch_wait=0.05) as (port, _), ThreadPoolExecutor(8) as clients:
        asked = [wrong if i % 4 == 1 else {"texts": [TEXTS[i]]} for i in range(8)]
        got = list(clients.map(lambda body: send(port, body), asked))
    assert [status for status, _ in got] == [200, 422, 200, 200, 200, 422, 200, 200]


def test_health_readiness_and_a_description(port):
    assert get(port, "/health") == (200, {"status": "alive"})
    assert get(port, "/ready") == (200, {"status": "ready"})
    status, described = get(port, "/openapi.json")
    assert status == 200
    assert set(described["paths"]) == {"/classify", "/health", "/ready"}
    assert get(port, "/classify")[0] == 405
    assert get(port, "/elsewhere")[0] == 404


class Held:
    """A classifier that answers when it is let."""

    def __init__(self, clf):
        self._clf, self.go, self.labels = clf, threading.Event(), clf.labels

    def predict_top(self, texts, **options):
        assert self.go.wait(60)
        return self._clf.predict_top(texts, **options)


def test_more_than_may_wait_come_back_later_and_the_end_waits_for_answers(serve, clf):
    held = Held(clf)
    serving = served(serve, held, max_waiting=4, batch_texts=1)
    with serving as (port, server), ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(send, port, {"texts": [TEXTS[i]]}) for i in range(4)]
        wait_until(lambda: metric(port, "skgliclass_waiting_texts") == 4)
        status, content = send(port, {"texts": ["a"]})
        assert (status, content["detail"]) == (503, "Too many texts are waiting.")
        server.should_exit = True
        held.go.set()
        assert [future.result()[0] for future in waiting] == [200] * 4


def test_without_labels_requests_have_to_bring_them(serve, clf):
    bare = GLiClassClassifier.from_pretrained(clf.model)
    with served(serve, bare) as (port, _):
        status, content = send(port, {"texts": ["a"]})
        assert status == 422
        assert "labels" in content["detail"]
        assert send(port, {"texts": ["a"], "labels": LABELS})[0] == 200


def memory(process):
    (line,) = [
        line
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory as Linux tells it")
def test_the_script_serves_ends_gracefully_and_needs_no_more_memory_with_time(clf):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, SCRIPT, "--model", clf.model, "--labels", *LABELS]
    process = subprocess.Popen([*command, "--port", str(port), "--threads", "1"])
    try:
        wait_until(lambda: is_up(port))
        with ThreadPoolExecutor(64) as clients:

            def ask(n):
                bodies = [{"texts": [f"{TEXTS[i % 12]} {i}"]} for i in range(n)]
                return {status for status, _ in clients.map(lambda b: send(port, b), bodies)}

            assert ask(500) == {200}
            before = memory(process)
            assert ask(2000) == {200}
            assert memory(process) < before + 20
            last = [clients.submit(send, port, {"texts": TEXTS[:1]}) for _ in range(8)]
            assert [future.result()[0] for future in last] == [200] * 8
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def is_up(port):
    try:
        return get(port, "/ready")[0] == 200
    except OSError:
        return False
