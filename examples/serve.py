"""Serve a classifier over HTTP; requests that come together are classified in one call.

Install ``skgliclass[mini,serve]``, then::

    python serve.py --labels travel sport economy
    curl localhost:8000/classify --json '{"texts": ["The match was lost."]}'

``examples/README.md`` tells what can be asked, and how it is run in a container.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

import prometheus_client as prometheus
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier

Classifier = GLiClassClassifier | GLiClassMultiLabelClassifier
Labels = list[str] | dict[str, str]
Message = MutableMapping[str, Any]
LOG = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class Limits:
    """What a request, and all that wait, may hold.

    Attributes
    ----------
    max_bytes : int
        Of a request.
    max_texts : int
        A request.
    max_characters : int
        A text, a label or what a label means.
    max_labels : int
        A request.
    max_waiting : int
        Texts of all requests that have no answer yet; more are told to come back.
    batch_texts : int
        Texts that are classified in one call, unless one request has more.
    batch_wait : float
        Seconds that a request waits for others to come.
    """

    max_bytes: int = 4_000_000
    max_texts: int = 256
    max_characters: int = 20_000
    max_labels: int = 200
    max_waiting: int = 2048
    batch_texts: int = 64
    batch_wait: float = 0.003


class Question(BaseModel):
    """What is asked: texts, and the labels to choose from where they are not the service's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str] = Field(min_length=1, examples=[["The match was lost."]])
    labels: Labels | None = Field(default=None, examples=[["sport", "travel"]])
    k: int | None = Field(default=None, ge=1, description="How many labels to list; None for all.")


class Score(BaseModel):
    """A label with its probability."""

    label: str | int | float | bool
    probability: float


class Answer(BaseModel):
    """Of one text what is predicted, and its most probable labels."""

    predicted: list[str | int | float | bool]
    scores: list[Score]


class Answers(BaseModel):
    """The answers, in the order of the texts."""

    answers: list[Answer]


@dataclass(eq=False)
class Job:
    """A request that waits for its answer."""

    question: Question
    future: asyncio.Future[list[Answer]]


class Metrics:
    """What is counted, for Prometheus to fetch."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "skgliclass"}
        sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256]
        self.requests = prometheus.Counter(
            "requests", "Requests by their status.", ["status"], **own
        )
        self.seconds = prometheus.Histogram("request_seconds", "From request to answer.", **own)
        self.texts = prometheus.Counter("texts", "Texts that were classified.", **own)
        self.batches = prometheus.Histogram(
            "batch_texts", "Texts that were classified in one call.", buckets=sizes, **own
        )
        self.waiting = prometheus.Gauge("waiting_texts", "Texts without an answer yet.", **own)


class Batcher:
    """Join requests that come together into one call of the classifier, in a thread of its own."""

    def __init__(self, clf: Classifier, limits: Limits, metrics: Metrics) -> None:
        self._clf, self._limits, self._metrics = clf, limits, metrics
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "classifier")
        self._task: asyncio.Task[None] | None = None
        self._n_waiting = 0

    @property
    def is_ready(self) -> bool:
        """Whether a request that comes now is answered."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer what waits, and end."""
        if self._task is not None:
            task, self._task = self._task, None
            await self._queue.put(None)
            await task
        self._thread.shutdown()

    async def ask(self, question: Question) -> list[Answer]:
        """Wait for the answers to a question."""
        n_texts = len(question.texts)
        if not self.is_ready:
            raise HTTPException(503, "The service is shutting down.")
        if self._n_waiting + n_texts > self._limits.max_waiting:
            raise HTTPException(503, "Too many texts are waiting.", {"Retry-After": "1"})
        job = Job(question, asyncio.get_running_loop().create_future())
        self._count_waiting(n_texts)
        try:
            await self._queue.put(job)
            return await job.future
        finally:
            self._count_waiting(-n_texts)

    def _count_waiting(self, n_more: int) -> None:
        self._n_waiting += n_more
        self._metrics.waiting.set(self._n_waiting)

    async def _run(self) -> None:
        ended = False
        while not ended:
            job = await self._queue.get()
            if job is None:
                return
            jobs = [job]
            # Others that are on their way; while a call runs, the next ones gather by themselves.
            await asyncio.sleep(self._limits.batch_wait)
            while not self._queue.empty() and _n_texts(jobs) < self._limits.batch_texts:
                job = self._queue.get_nowait()
                if job is None:
                    ended = True
                    break
                jobs.append(job)
            await self._answer(jobs)

    async def _answer(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if not job.future.done()]
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._classify, jobs)
        except Exception as error:
            if len(jobs) > 1:
                # What is wrong with one of them is no matter of the others.
                for job in jobs:
                    await self._answer([job])
            elif not jobs[0].future.done():
                jobs[0].future.set_exception(error)
            return
        for job, own in zip(jobs, answers, strict=True):
            if not job.future.done():
                job.future.set_result(own)

    def _classify(self, jobs: Sequence[Job]) -> list[list[Answer]]:
        texts = [text for job in jobs for text in job.question.texts]
        if not texts:
            return []
        frame = self._clf.predict_top(texts, k=None, labels=self._labels_of(jobs))
        self._metrics.texts.inc(len(texts))
        self._metrics.batches.observe(len(texts))
        rows: list[list[tuple[Any, float, bool]]] = [[] for _ in texts]
        columns = (frame[name].tolist() for name in ("label", "probability", "predicted"))
        for i, *row in zip(frame.index.tolist(), *columns, strict=True):
            rows[i].append((row[0], row[1], row[2]))
        remaining = iter(rows)
        return [
            [_answer(next(remaining), job.question.k) for _ in job.question.texts] for job in jobs
        ]

    def _labels_of(self, jobs: Sequence[Job]) -> list[Any] | None:
        """Give the labels of each text; None where all have those of the classifier."""
        if all(job.question.labels is None for job in jobs):
            return None
        own = self._clf.labels if self._clf.labels is not None else _classes(self._clf)
        return [
            own if job.question.labels is None else job.question.labels
            for job in jobs
            for _ in job.question.texts
        ]


def _classes(clf: Classifier) -> list[Any]:
    return list(getattr(clf, "classes_", []))


def _n_texts(jobs: Iterable[Job]) -> int:
    return sum(len(job.question.texts) for job in jobs)


def _answer(rows: Sequence[tuple[Any, float, bool]], k: int | None) -> Answer:
    return Answer(
        predicted=[label for label, _, is_predicted in rows if is_predicted],
        scores=[Score(label=label, probability=number) for label, number, _ in rows[:k]],
    )


def check(question: Question, limits: Limits) -> None:
    """Refuse what is too much, or cannot be sent on as text.

    Raises
    ------
    HTTPException
        With status 422, and the row in its message.
    """
    labels = question.labels or ()
    for name, values, most in (
        ("texts", question.texts, limits.max_texts),
        ("labels", labels, limits.max_labels),
    ):
        if len(values) > most:
            raise HTTPException(422, f"{name}: {len(values)} of them; at most {most} a request.")
    meanings = labels.values() if isinstance(labels, dict) else ()
    for name, strings in (("texts", question.texts), ("labels", [*labels, *meanings])):
        for i, string in enumerate(strings):
            if len(string) > limits.max_characters:
                raise HTTPException(
                    422,
                    f"{name}[{i}]: {len(string)} characters; at most {limits.max_characters}.",
                )


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Name the rows that are wrong, and do not send them back."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    # What does not fit one kind of labels may fit the other.
    wrong = [e for e in found if e["type"] not in ("list_type", "dict_type")] or found
    details = [f"{_place(e['loc'])}: {e['msg']}." for e in wrong[:5]]
    if len(wrong) > 5:
        details.append(f"And {len(wrong) - 5} more.")
    return JSONResponse({"detail": " ".join(details)}, 422)


def _place(location: Sequence[str | int]) -> str:
    names = [part for part in location if part != "body" and "[" not in str(part)]
    inner = "".join(f"[{part!r}]" for part in names[1:])
    return f"{names[0]}{inner}" if names else "The request"


class Guard:
    """Refuse requests that are too large while they come in, and count all of them."""

    def __init__(self, app: Any, limits: Limits, metrics: Metrics) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"] != "/classify":
            await self._app(scope, receive, send)
            return
        started, n_bytes = time.perf_counter(), 0
        most = self._limits.max_bytes

        async def counted_receive() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > most:
                raise HTTPException(413, f"The request has more than {most} bytes.")
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
                self._metrics.seconds.observe(time.perf_counter() - started)
            await send(message)

        if int(dict(scope["headers"]).get(b"content-length", 0)) > most:
            refusal = JSONResponse({"detail": f"The request has more than {most} bytes."}, 413)
            await refusal(scope, receive, counted_send)
        else:
            await self._app(scope, counted_receive, counted_send)


def create_app(clf: Classifier, limits: Limits | None = None) -> FastAPI:
    """Make the application around a classifier.

    Parameters
    ----------
    clf : GLiClassClassifier or GLiClassMultiLabelClassifier
        It is called from one thread at a time.
    limits : Limits, optional
        What requests may hold.

    Returns
    -------
    FastAPI
    """
    limits, metrics = limits or Limits(), Metrics()
    batcher: Batcher

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal batcher
        batcher = Batcher(clf, limits, metrics)
        batcher.start()
        yield
        await batcher.stop()

    async def classify(question: Question) -> Answers:
        check(question, limits)
        try:
            return Answers(answers=await batcher.ask(question))
        except (ValueError, TypeError) as error:
            raise HTTPException(422, re.sub(r"\bX\[", "texts[", str(error))) from error

    async def health() -> dict[str, str]:
        return {"status": "alive"}

    async def ready() -> dict[str, str]:
        if not batcher.is_ready:
            raise HTTPException(503, "The classifier does not run.")
        return {"status": "ready"}

    async def exposition() -> Response:
        content = prometheus.generate_latest(metrics.registry)
        return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)

    app = FastAPI(title="skgliclass", lifespan=lifespan)
    app.add_api_route("/classify", classify, methods=["POST"])
    app.add_api_route("/health", health)
    app.add_api_route("/ready", ready)
    app.add_api_route("/metrics", exposition, include_in_schema=False)
    app.add_exception_handler(RequestValidationError, refuse)
    app.add_middleware(Guard, limits=limits, metrics=metrics)
    return app


def load(args: argparse.Namespace) -> Classifier:
    """Load the classifier, and classify a text: the first one takes long."""
    kind = GLiClassMultiLabelClassifier if args.multi_label else GLiClassClassifier
    own = {"labels": args.labels} if args.labels else {}
    clf = kind.from_pretrained(args.model, revision=args.revision, device=args.device, **own)
    labels = None if _classes(clf) else [["one", "two"]]
    clf.predict_top(["A text, to begin with."], labels=labels)
    return clf


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop; then answer what waits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default="mini", help="folder or hub id, or mini")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument("--multi-label", action="store_true", help="any number of labels a text")
    parser.add_argument("--labels", nargs="+", help="where the model was saved without, or others")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--threads", type=int, help="of torch; by default as many as it finds cores"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--grace", type=int, default=30, help="seconds to answer what waits at the end"
    )
    for field in fields(Limits):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=type(field.default), default=field.default)
    args = parser.parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    limits = Limits(**{field.name: getattr(args, field.name) for field in fields(Limits)})
    uvicorn.run(
        create_app(load(args), limits),
        host=args.host,
        port=args.port,
        access_log=False,
        timeout_graceful_shutdown=args.grace,
    )


if __name__ == "__main__":
    main()
