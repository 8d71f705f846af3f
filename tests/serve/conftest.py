"""A server on this machine, with the nano model behind it."""

import contextlib
import http.client
import json
import threading
import time

import pytest

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
        yield found
