"""The server: one process, one address, until a signal ends it."""

import socket
from collections.abc import Collection

import anyio.to_thread
import uvicorn

from cogjax.errors import UserError
from cogjax.serve.abilities import Shelf
from cogjax.serve.app import make_app
from cogjax.serve.draw import warm_up
from cogjax.serve.engine import Engine
from cogjax.serve.job import Limits

_MOST_CONNECTIONS = 512
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
        http="h11",
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
