"""What somebody has asked for: how far it is, and what came of it."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

LEAVING = 5.0  # seconds until a client that has left is back, such as a reloaded page
FINISHED = ("done", "failed", "cancelled")
# Share of the time that previews may take.
_PREVIEWS = 0.25


class Stopped(Exception):
    """Raised in the work of a job that is to end; its words say why."""


@dataclass(frozen=True)
class Outcome:
    """result: JSON-able. images: PNG files."""

    result: Mapping[str, Any]
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Limits:
    """queue: requests that wait. images: candidates of a request. seconds: that it may
    run. patience: seconds that it goes on while nobody asks how far it is. kept: bytes
    of finished images.
    """

    queue: int = 16
    images: int = 16
    seconds: float = 600
    patience: float = 180  # A browser wakes a page behind others once a minute.
    kept: int = 64 << 20


@dataclass(eq=False)
class Job:
    """One request. The worker writes, other threads read `snapshot` and `images`.

    work: makes the outcome; it is called with the job, and calls `progress` and `show`.
    """

    work: Callable[["Job"], Outcome] | None
    limits: Limits
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "waiting"
    place: int = 0
    images: tuple[bytes, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    def __post_init__(self):
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []
        self._progress = 0, 0, ""
        self._shown = 0  # counts changes of the images
        self.stopped = ""  # why, before its worker has obeyed
        self._wanted_until = time.monotonic() + self.limits.patience
        self._end = self._next_preview = float("inf")

    def snapshot(self) -> dict[str, Any]:
        """How far it is, JSON-able."""
        with self._lock:
            done, total, doing = self._progress
            if self.stopped and self.state == "running":
                done, total, doing = 0, 0, "stopping"
            return {
                "id": self.id,
                "state": self.state,
                "place": self.place,
                "done": done,
                "total": total,
                "doing": doing,
                "images": len(self.images),
                "version": self._shown,
                "error": self.error,
                **self.result,
            }

    def ask(self) -> dict[str, Any]:
        """As `snapshot`, by a client, which therefore still wants it."""
        self._want(self.limits.patience)
        return self.snapshot()

    @contextlib.contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Calls `wake`, from any thread, after every change, and wants the job."""
        with self._lock:
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)
            self._want(LEAVING)

    def stop(self, why: str) -> None:
        """Makes the next `progress` or `show` raise; nothing for a job that is over."""
        self.stopped = self.stopped or why
        self.change()

    def reason_to_stop(self) -> str:
        """Why it should not go on, "" if it should."""
        now = time.monotonic()
        if self.stopped:
            return self.stopped
        if now > self._end:
            most = self.limits.seconds
            return f"stopped after {most:g} seconds: ask for fewer images or steps"
        if not self._wakers and now > self._wanted_until:
            return "nobody asked for it any more"
        return ""

    def begin(self) -> None:
        """The worker has taken it."""
        now = time.monotonic()
        self._end, self._next_preview = now + self.limits.seconds, now
        self.change(state="running", place=0)

    def change(self, **fields) -> None:
        """Sets fields and tells those that watch."""
        with self._lock:
            for name, value in fields.items():
                setattr(self, name, value)
            self._shown += "images" in fields
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def progress(self, done: int, total: int, doing: str) -> None:
        """As of `contracts.Progress`. Raises Stopped."""
        self.go_on()
        self.change(_progress=(done, total, doing))

    def show(self, make: Callable[[], tuple[bytes, ...]]) -> None:
        """Shows the images that `make` gives, if somebody looks and there is time.

        Raises Stopped.
        """
        self.go_on()
        start = time.monotonic()
        if not self._wakers or start < self._next_preview:
            return
        self.change(images=make())
        end = time.monotonic()
        self._next_preview = end + (end - start) * (1 / _PREVIEWS - 1)

    def go_on(self) -> None:
        """Raises Stopped if there is a reason to."""
        if why := self.reason_to_stop():
            raise Stopped(why)

    def _want(self, seconds: float) -> None:
        """Keeps it for so long from now."""
        self._wanted_until = time.monotonic() + seconds
