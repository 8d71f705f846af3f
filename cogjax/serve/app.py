"""The page and the JSON API: every answer but pages and images is JSON.

GET    /api/models                     what is served, and what each model can do
POST   /api/requests                   a request, as of `body.py`: 202 and its id
GET    /api/requests/ID                how far it is
GET    /api/requests/ID/events         the same after every change, until it is over
GET    /api/requests/ID/images/N.png   an image, on the way a preview; 204 for none
DELETE /api/requests/ID                cancels it
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from importlib import resources
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cogjax.errors import UserError
from cogjax.serve.abilities import Shelf
from cogjax.serve.body import work_of
from cogjax.serve.engine import Engine, Full
from cogjax.serve.guard import HEADERS, Guard, refusal
from cogjax.serve.job import FINISHED, Job

MAX_BODY = 16 << 20  # bytes
_BODY_SECONDS = 30  # that it may take to arrive
_QUIET = 10  # seconds until a client is told that nothing has changed
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_KINDS |= {"svg": "image/svg+xml"}
_GONE = "there is no such request, or its images made room for newer ones: ask again"


def make_app(shelf: Shelf, engine: Engine, names: Collection[str]) -> Starlette:
    """The application. names: as of `Guard`."""
    api = _Api(shelf, engine)
    one = "/api/requests/{id}"
    routes = [
        Route("/api/models", api.models, methods=["GET"]),
        Route("/api/requests", api.submit, methods=["POST"]),
        Route(one, api.state, methods=["GET"]),
        Route(one, api.cancel, methods=["DELETE"]),
        Route(f"{one}/events", api.events, methods=["GET"]),
        Route(f"{one}/images/{{name}}", api.image, methods=["GET"]),
        *_pages(),
    ]

    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )


def _pages() -> list[Route]:
    """The files of the page: these and no others are read, when the server starts."""
    routes = []
    for file in resources.files("cogjax.serve").joinpath("page").iterdir():
        kind = _KINDS[file.name.rpartition(".")[2]]
        answer = Response(file.read_bytes(), media_type=f"{kind}; charset=utf-8")

        async def page(request: Request, answer: Response = answer) -> Response:
            return answer

        path = "/" if file.name == "index.html" else f"/{file.name}"
        routes.append(Route(path, page, methods=["GET"]))
    return routes


class _Api:
    """The handlers of requests."""

    def __init__(self, shelf: Shelf, engine: Engine):
        self._shelf, self._engine = shelf, engine
        # Images are decoded one at a time: each may take memory for many.
        self._decoding = asyncio.Semaphore(1)

    async def models(self, request: Request) -> Response:
        limits = {"images": self._engine.limits.images}
        return JSONResponse({"models": self._shelf.described(), "limits": limits})

    async def submit(self, request: Request) -> Response:
        body = _json_of(await _body_of(request))
        limits = self._engine.limits
        try:
            async with self._decoding:
                work = await anyio.to_thread.run_sync(
                    work_of, body, self._shelf, limits
                )
            job = self._engine.submit(work)
        except UserError as error:
            return refusal(400, str(error))
        except Full:
            words = f"{limits.queue} requests wait already: try again in a moment"
            return refusal(503, words, {"Retry-After": "2"})
        return JSONResponse(job.ask(), 202)

    async def state(self, request: Request) -> Response:
        return JSONResponse(self._job(request).ask())

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        self._engine.cancel(job)
        return JSONResponse(job.snapshot())

    async def events(self, request: Request) -> Response:
        stream = _events(self._job(request))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def image(self, request: Request) -> Response:
        files, name = self._job(request).images, request.path_params["name"]
        found = {f"{i}.png": file for i, file in enumerate(files)}.get(name)
        if found is None:
            return Response(status_code=204)  # Not yet, or it was a preview alone.
        return Response(found, media_type="image/png")

    def _job(self, request: Request) -> Job:
        job = self._engine.get(request.path_params["id"])
        if job is None:
            raise HTTPException(404, _GONE)
        return job


async def _events(job: Job) -> AsyncIterator[str]:
    """How far a job is, after every change that the client was there to take."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # The server has closed.
            loop.call_soon_threadsafe(changed.set)

    with job.watched(wake):
        yield "retry: 1000\n\n"
        while True:
            changed.clear()
            found = job.snapshot()
            yield f"data: {json.dumps(found)}\n\n"
            if found["state"] in FINISHED:
                return
            try:
                await asyncio.wait_for(changed.wait(), _QUIET)
            except TimeoutError:
                yield ": nothing new\n\n"


async def _body_of(request: Request) -> bytes:
    """The body; a refusal of one that is too long, too slow or of another kind."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "the body must be application/json")
    length = request.headers.get("content-length", "0")
    found, size = [], int(length) if length.isdecimal() else 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            if size <= MAX_BODY:
                size = 0
                async for part in request.stream():
                    size += len(part)
                    found.append(part)
                    if size > MAX_BODY:
                        break
    except TimeoutError:
        raise HTTPException(408, "the body took too long to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body has no end") from None
    if size > MAX_BODY:
        raise HTTPException(413, f"the body has more than {MAX_BODY >> 20} MiB")
    return b"".join(found)


def _json_of(body: bytes) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None


async def _refused(request: Request, error: HTTPException) -> Response:
    return refusal(error.status_code, error.detail, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette answers so outside of `Guard`, which adds these otherwise.
    words = "the server failed at this request: its log says why"
    return refusal(500, words, HEADERS)
