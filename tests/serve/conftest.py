"""Servers on this machine: before the nano model, and before one that only paints."""

import contextlib
import http.client
import json
import threading
import time

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.pipelines.contracts import Generation
from cogjax.serve.abilities import Shelf
from cogjax.serve.job import FINISHED, Limits
from cogjax.serve.server import listen, make_server


class Client:
    """Asks a server over its own connection each time."""

    def __init__(self, port):
        self.port = port

    def ask(self, method, path, body=None, **headers):
        """(status, JSON value or bytes, headers) of a request."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            found = answer.read()
            kind = answer.headers["Content-Type"]
        found = json.loads(found) if kind == "application/json" else found
        return answer.status, found, answer.headers

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def post(self, **fields):
        """The id of a request that was taken."""
        status, found, _ = self.ask("POST", "/api/requests", fields)
        assert status == 202, found
        return found["id"]

    def done(self, **fields):
        """What came of a request."""
        name = self.post(**fields)
        while True:
            found = self.ask("GET", f"/api/requests/{name}")[1]
            if found["state"] in FINISHED:
                return found
            time.sleep(0.01)

    def refused(self, **fields):
        """The words that a bad request is refused with."""
        status, found, _ = self.ask("POST", "/api/requests", fields)
        assert status == 400 and list(found) == ["error"], found
        assert "\n" not in found["error"]
        return found["error"]


class Painter:
    """Paints rows of grey squares, one row at a time: nothing is compiled."""

    card = {"name": "painter", "what": "Paints grey squares"}
    grid, answers_questions = 4, True

    def check(self, request, *, preview=None, rerank_by=None):
        for name in ("steps", "style", "strength", "method", "percentile"):
            if getattr(request, name) is not None:
                raise UserError(f"{name} is not for a painter")

    def settings(self, request):
        own = {"temperature": request.temperature or 1.0}
        return own | request.editing() | {"num_images": request.num_images}

    def generate(self, request, progress=None, preview=None, rerank_by=None):
        """A prompt with "slowly" in it is painted until it is cancelled."""
        count = max(request.num_images, request.rerank)
        codes = np.random.default_rng(request.seed).integers(0, 200, (count, 4, 4))
        if request.has_hole and request.vary is None:
            _, keep = request.given((self.grid, self.grid))
            codes[:, keep] = 0
        times = 10_000 if "slowly" in request.prompts[0] else 1
        for row in np.repeat(np.arange(1, 5), times):
            progress(0, count, "generating")
            time.sleep(0.01)
            done = np.arange(4)[:, None] < row
            preview([(0, i) for i in range(count)], np.where(done, codes, -1))
        progress(count, count, "generating")
        pixels = request.laid_over(self.decode(codes))
        scores = None
        if request.rerank:
            texts = list(request.prompts) * count
            scores = (rerank_by or self.score)(pixels, texts)[None]
        pixels, codes = (x[None, : request.num_images] for x in (pixels, codes))
        return Generation(request.prompts, pixels, codes, scores, unseen=("zyzzyva",))

    def decode(self, codes):
        return np.repeat(np.kron(codes, np.ones((4, 4)))[..., None], 3, -1).astype("u1")

    def encode(self, images):
        raise NotImplementedError

    def caption(self, images, **search):
        return ["a grey square"]

    def ask(self, images, questions, **search):
        return ["grey"]

    def score(self, images, texts):
        return np.arange(len(texts), dtype=np.float32)

    def unseen(self, texts):
        return ()


@contextlib.contextmanager
def serving(models, **limits):
    """A `Client` of a server with some models."""
    socket = listen("127.0.0.1", 0)
    shelf = Shelf(models, "1.2.3", {"weights": "float32"})
    server = make_server(shelf, Limits(**limits), ["cogjax.test"])
    run = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    run.start()
    try:
        yield Client(socket.getsockname()[1])
    finally:
        server.should_exit = True
        run.join(20)
        assert not run.is_alive()


@pytest.fixture(scope="session")
def client(nano_model, toy_clip):
    with serving({"nano": nano_model, "clip": toy_clip}) as found:
        found.done(prompts="a cat")  # It has compiled what it draws with.
        yield found


@pytest.fixture(scope="session")
def painter():
    """A client of a server that compiles nothing."""
    with serving({"painter": Painter(), "other": Painter()}, queue=3) as found:
        yield found
