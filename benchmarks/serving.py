"""Ask examples/serve.py from many clients, and print how long they wait beside a bare `predict`.

    python benchmarks/serving.py --clients 64 --requests 2000

Clients send a text a request over connections that stay open. Clients and service share the
machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from skgliclass import GLiClassClassifier

SCRIPT = Path(__file__).parents[1] / "examples" / "serve.py"
LABELS = ["travel", "sport", "economy", "science", "politics", "cooking"]
SENTENCES = [
    "One day I will see the world, from Lisbon to Samarkand.",
    "Extra-time header sends the underdogs into the final.",
    "Central bank leaves interest rates unchanged for a third month.",
    "New telescope images show water on a distant planet.",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    texts = [f"{SENTENCES[i % 4]} ({i})" for i in range(args.requests)]
    print("| | clients | p50, ms | p99, ms | texts a second | MiB before, after |")
    print("| --- | --- | --- | --- | --- | --- |")
    clf = GLiClassClassifier(args.model, LABELS)
    clf.predict(texts[:64])
    alone = texts[: max(args.requests // 10, 50)]
    show("`predict`, a text a call", 1, [seconds(lambda t=t: clf.predict([t])) for t in alone])
    whole = seconds(lambda: clf.predict(texts))
    print(f"| `predict`, all in one call | 1 | | | {len(texts) / whole:.0f} | |")
    with service(args.model, args.threads) as (process, port):
        ask_all(port, 1, texts[:20])
        show("service", 1, ask_all(port, 1, alone)[0])
        ask_all(port, args.clients, texts[: 2 * args.clients])
        before = resident(process)
        waits, whole = ask_all(port, args.clients, texts)
        show("service", args.clients, waits, whole, f"{before:.0f}, {resident(process):.0f}")


def show(
    name: str, n_clients: int, waits: list[float], whole: float | None = None, memory: str = ""
) -> None:
    middle, late = 1000 * np.quantile(waits, [0.5, 0.99])
    rate = len(waits) / (whole or sum(waits))
    print(
        f"| {name} | {n_clients} | {middle:.1f} | {late:.1f} | {rate:.0f} | {memory} |", flush=True
    )


def seconds(work: object) -> float:
    assert callable(work)
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def ask_all(port: int, n_clients: int, texts: list[str]) -> tuple[list[float], float]:
    """Divide texts over clients; give how long each request took, and all of them."""

    def ask(part: list[str]) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        waits = [seconds(lambda t=text: send(connection, t)) for text in part]
        connection.close()
        return waits

    with ThreadPoolExecutor(n_clients) as clients:
        begun = time.perf_counter()
        waits = list(clients.map(ask, [texts[i::n_clients] for i in range(n_clients)]))
        return [wait for part in waits for wait in part], time.perf_counter() - begun


def send(connection: http.client.HTTPConnection, text: str) -> None:
    body = json.dumps({"texts": [text]})
    connection.request("POST", "/classify", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {answer.decode()}")


@contextmanager
def service(model: str, n_threads: int | None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the service until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, str(SCRIPT), "--model", model, "--port", str(port)]
    if n_threads is not None:
        command += ["--threads", str(n_threads)]
    process = subprocess.Popen([*command, "--labels", *LABELS], stderr=subprocess.DEVNULL)
    try:
        while not is_up(port):
            if process.poll() is not None:
                raise RuntimeError("The service did not start; run it by hand to see why.")
            time.sleep(0.1)
        yield process, port
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()


def is_up(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def resident(process: subprocess.Popen[bytes]) -> float:
    """Give the memory of a process in MiB, where the system tells."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return float("nan")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
