"""`cogjax serve`: a page and a JSON API in front of models (docs/serving.md)."""

import argparse
import contextlib
import importlib.util
import sys

from cogjax.commands import arguments
from cogjax.commands.arguments import add_command, whole
from cogjax.errors import UserError
from cogjax.serve.job import Limits

_MODEL = "shipped name or folder (emoji); may be repeated, also for a CLIP to rerank by"
_HOST = "address to listen at; 0.0.0.0 lets other machines in (%(default)s)"
_NAME = "name by which others reach this machine, such as a proxy's; may be repeated"
_QUEUE = "most requests that wait (%(default)s)"
_IMAGES = "most images or candidates of a request (%(default)s)"
_SECONDS = "longest that a request may run (%(default)s)"


def add_parser(commands) -> None:
    """Adds `serve`."""
    summary = "A page in the browser, and a JSON API: draw, edit, describe, ask."
    parser = add_command(commands, "serve", _serve, summary)
    add, limits = parser.add_argument, Limits()
    add("--model", dest="models", action="append", metavar="MODEL", help=_MODEL)
    arguments.add_weights(parser)
    add("--host", default="127.0.0.1", help=_HOST)
    port = whole(0, 65535)
    add("--port", type=port, default=8000, help="0: any free one (%(default)s)")
    add("--name", dest="names", action="append", default=[], help=_NAME)
    size = whole(1, 1000)
    add("--queue", type=size, default=limits.queue, metavar="N", help=_QUEUE)
    add("--max-images", type=size, default=limits.images, metavar="N", help=_IMAGES)
    seconds = whole(1, 86_400)
    add(
        "--max-seconds",
        type=seconds,
        default=limits.seconds,
        metavar="N",
        help=_SECONDS,
    )


def _serve(args: argparse.Namespace) -> None:
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not here: pip install 'cogjax[serve]'")
    from cogjax import __version__
    from cogjax.serve.abilities import Shelf
    from cogjax.serve.server import listen, make_server

    # Before the models: they take longer to load than a mistake to be seen.
    with listen(args.host, args.port) as socket:
        models = _load(args.models or ["emoji"], args.weights)
        shelf = Shelf(models, __version__, {"weights": args.weights})
        limits = Limits(args.queue, args.max_images, args.max_seconds)
        server = make_server(shelf, limits, [args.host, *args.names])
        address, port = socket.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        print(
            f"{', '.join(models)}: http://{shown}:{port} (Ctrl-C ends it)", flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[socket])


def _load(names: list[str], weights: str) -> dict:
    """The models by name; a folder is called by its last name."""
    import cogjax

    models = {}
    for name in names:
        short = name.rstrip("/").rpartition("/")[2]
        if short in models:
            raise UserError(f"two models are called {short!r}: rename a folder")
        print(f"loading {name}", file=sys.stderr, flush=True)
        models[short] = cogjax.load(name, weights=weights)
    return models
