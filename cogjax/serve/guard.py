"""Who may ask, and what browsers are told: around the whole application."""

import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing from outside, no script within the page, no frame around it.
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refusal(status: int, words: str, headers: dict | None = None) -> JSONResponse:
    """One line of JSON that says what is wrong."""
    return JSONResponse({"error": " ".join(words.split())}, status, headers)


class Guard:
    """Refuses foreign names and pages, and puts headers on every answer.

    names: under which this server may be addressed, besides by number and as localhost.
    A page elsewhere whose name is made to lead here is so kept out (DNS rebinding), and
    one that posts from elsewhere too.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]):
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        app: ASGIApp = self._app
        if not self._is_known(host):
            app = refusal(403, f"this server is not called {host[:100]!r}: see --name")
        elif origin is not None and origin.partition("://")[2] != host:
            app = refusal(403, "a page of another server may not ask this one")
        await app(scope, receive, sent)

    def _is_known(self, host: str) -> bool:
        """Whether a Host header is a number or a known name, with any port."""
        name, _, port = host.rpartition(":")
        if not port.isdecimal():
            name = host  # Without a port.
        name = name.removeprefix("[").removesuffix("]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True
