"""What examples/browser shows in a real browser, beside what the classifier says."""

import json
import runpy
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

FOLDER = Path(__file__).parents[1] / "examples" / "browser"
MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
if not (FOLDER / "node_modules").is_dir():
    MISSING.append("examples/browser/node_modules (npm ci)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("onnx", "onnxscript"),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("ignore::skgliclass.exceptions.TruncationWarning"),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
LABELS = ["travel", "sport", "question about an invoice", "naïve 你好", "<<LABEL>>"]
TEXTS = [
    "One day I will see the world!",
    "naïve café, 你好 world 😀 ﬁne",
    "Ｆｕｌｌ ｗｉｄｔｈ, İstanbul, ǅ, ʼn, Straße",
    "e\u0301 soft\u00adhyphen zero\u200bwidth \u0007 bell \ufeff \u2028 line",
    "[CLS] and <<LABEL>> are spelled here [SEP] ##s [UNK]",
    "Подписка отменена, верните деньги! خدمة العملاء हिन्दी 한국어",
    "a" * 150 + " " + "😀" * 90 + " " + "𝒽ello",
    "the match was lost " * 200,
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Browser:
    """One window, by the protocol of WebDriver."""

    def __init__(self, url, profile):
        self._url = url
        args = [*FLAGS, f"--user-data-dir={profile}"]
        wanted = {"alwaysMatch": {"goog:chromeOptions": {"args": args}}}
        self._session = self._send("POST", "", {"capabilities": wanted})["sessionId"]

    def _send(self, method, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        asked = urllib.request.Request(f"{self._url}/session{path}", data, method=method)
        with urllib.request.urlopen(asked, timeout=300) as response:
            return json.load(response)["value"]

    def open(self, url):
        self._send("POST", f"/{self._session}/url", {"url": url})

    def run(self, script, *args):
        content = {"script": script, "args": args}
        return self._send("POST", f"/{self._session}/execute/sync", content)

    def wait(self, script, *args, seconds=240):
        end = time.monotonic() + seconds
        while not (found := self.run(script, *args)):
            assert time.monotonic() < end, self.run("return document.body.innerText")
            time.sleep(0.1)
        return found

    def close(self):
        self._send("DELETE", f"/{self._session}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    process = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = next(
            line.rsplit(" ", 1)[1].strip(" .\n")
            for line in process.stdout
            if "started successfully on port" in line
        )
        browser = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    runpy.run_path(str(FOLDER / "build.py"))["build"](folder)
    return folder


@pytest.fixture(scope="module")
def address(browser, site):
    with served(site) as url:
        yield url
        browser.open("about:blank")


@pytest.fixture
def page(browser, address):
    # Another test may have left the browser elsewhere.
    if browser.run("return document.location.href") != address:
        browser.open(address)
        state = browser.wait(
            "return document.body.dataset.state !== 'loading' && document.body.dataset.state"
        )
        assert state == "ready", browser.run("return document.body.innerText")
    return browser


ASK = """
const [text, labels, kind] = arguments;
document.querySelector(`input[value=${kind}]`).checked = true;
document.getElementById("labels").value = labels.join(", ");
const field = document.getElementById("text");
field.value = text;
field.dispatchEvent(new Event("input"));
"""
ANSWER = """
const [text, labels, kind] = arguments;
const bars = document.getElementById("bars");
const field = document.getElementById("text");
const asked = JSON.stringify({ text: field.value, labels, several: kind === "several" });
return bars.dataset.question === asked && Object.fromEntries(
  [...bars.children].map((row) => [row.dataset.label, Number(row.dataset.probability)])
);
"""


def shown(page, text, labels, kind="one"):
    page.run(ASK, text, labels, kind)
    return page.wait(ANSWER, text, labels, kind)


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [("one", GLiClassClassifier), ("several", GLiClassMultiLabelClassifier)],
)
def test_the_page_shows_the_probabilities_of_the_classifier(page, kind, estimator):
    expected = estimator(labels=LABELS).predict_frame(TEXTS)
    got = [shown(page, text, LABELS, kind) for text in TEXTS]
    got = np.array([[row[name] for name in expected.columns] for row in got])
    difference = np.abs(got - expected.to_numpy()).max(axis=1)
    print("largest differences:", difference)
    assert (difference < 1e-4).all(), difference


def test_bars_come_in_their_order_and_the_time_is_shown(page):
    found = list(shown(page, "The keeper held the penalty.", ["travel", "sport"]).items())
    assert [name for name, _ in found] == ["sport", "travel"]
    assert "ms, in this browser" in page.run("return document.getElementById('status').innerText")


def test_without_labels_it_asks_for_them(page):
    page.run(ASK, "A text.", [], "one")
    page.wait("return document.getElementById('status').innerText.startsWith('Type labels')")
    assert page.run("return document.getElementById('bars').children.length") == 0


def test_labels_are_shown_as_they_are_written(page):
    label = "<b>bold</b>"
    shown(page, "A text.", [label, "other"])
    assert label in page.run("return document.getElementById('bars').innerText")


def test_a_missing_model_is_said_in_words(browser, site, tmp_path):
    for name in ("index.html", "style.css", "page.js", "model.js"):
        shutil.copy(site / name, tmp_path)
    for file in (*site.glob("*.mjs"), *site.glob("*.wasm")):
        shutil.copy(file, tmp_path)
    with served(tmp_path) as url:
        browser.open(url)
        browser.wait("return document.body.dataset.state === 'failed'")
        said = browser.run("return document.getElementById('status').innerText")
        browser.open("about:blank")
    assert said == "The model could not be loaded: model.json cannot be read (status 404)."
