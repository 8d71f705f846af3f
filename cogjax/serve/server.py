"""The server: one process, one address, until a signal ends it."""

import asyncio
import socket
from collections.abc import Collection

import anyio.to_thread
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cogjax.errors import UserError
from cogjax.serve.abilities import Shelf
from cogjax.serve.app import make_app
from cogjax.serve.draw import warm_up
from cogjax.serve.engine import Engine
from cogjax.serve.job import Limits

_MOST_CONNECTIONS = 512
HEAD_SECONDS = 10  # that a request's head may take to arrive
_CLOSING = 5  # seconds for the worker to come to its next step
_LEAVING = 2  # seconds that open connections have when the server ends


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address; UserError if that is impossible. port 0: any free one."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen at {host} port {port}: {why}") from error


class Protocol(H11Protocol):
    """HTTP that hangs up on a client whose request's head does not come to its end."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore
        """From here on the first head is waited for."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """A part of a head, the whole of it, or of a body."""
        if self._limit is None and self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._wait_no_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._limit = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


class Server(uvicorn.Server):
    """Ends the work first, so that those who watch it are told."""

    def __init__(self, config: uvicorn.Config, engine: Engine):
        super().__init__(config)
        self._engine = engine

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called when a signal has come."""
        await anyio.to_thread.run_sync(self._engine.close, _CLOSING)
        await super().shutdown(sockets)


def make_server(shelf: Shelf, limits: Limits, names: Collection[str]) -> Server:
    """What serves the models; `run(sockets=[listen(...)])` starts it."""
    engine = Engine(limits, warm_up(shelf))
    config = uvicorn.Config(
        make_app(shelf, engine, names),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_LEAVING,
    )
    return Server(config, engine)
