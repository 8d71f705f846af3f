"""One worker that does what is asked in turn, with bounds on what waits and is kept.

Models are not shared between threads: all their work is done by the worker, one request
after the other, which is also what one accelerator can do.
"""

import contextlib
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence

from cogjax.errors import UserError
from cogjax.serve.job import FINISHED, Job, Limits, Outcome, Stopped

_FAILED = "the server failed at this request: its log says why"
_MEMORY = "the server has too little memory for this: ask for fewer images"
_MOST_KEPT = 1000  # finished jobs, some of which have no images


class Full(Exception):
    """The queue has no place."""


class Engine:
    """Jobs by their ids, which nobody can guess.

    warm: done before the first job, such as compiling; one may raise Stopped.
    """

    def __init__(self, limits: Limits, warm: Sequence[Callable[[], None]] = ()):
        self.limits = limits
        self._jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._finished: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._work, args=(warm,), name="worker", daemon=True
        )
        self._thread.start()

    def submit(self, work: Callable[[Job], Outcome]) -> Job:
        """A job that waits its turn. Raises Full."""
        with self._changed:
            # Places that nobody wants any more are free.
            for job in [job for job in self._queue if job.reason_to_stop()]:
                self._drop(job)
            if self._closed or len(self._queue) >= self.limits.queue:
                raise Full
            job = Job(work, self.limits)
            self._jobs[job.id] = job
            self._queue.append(job)
            self._number()
            self._changed.notify()
        return job

    def get(self, name: str) -> Job | None:
        """The job of an id, None if there is none, or it is long over."""
        return self._jobs.get(name)

    def cancel(self, job: Job) -> None:
        """At once where it waits, at its next step where it runs."""
        with self._changed:
            job.stop("cancelled")
            if job in self._queue:
                self._drop(job)
                self._number()

    def close(self, seconds: float) -> None:
        """Cancels all jobs, and waits so long for the worker."""
        with self._changed:
            self._closed = True
            for job in list(self._queue):
                job.stop("the server is closing")
                self._drop(job)
            if self._running:
                self._running.stop("the server is closing")
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self, warm: Sequence[Callable[[], None]]) -> None:
        for each in warm:
            try:
                with contextlib.suppress(Stopped):
                    each()
            except Exception:
                traceback.print_exc(file=sys.stderr)
            if self._closed:
                return
        while job := self._next():
            self._run(job)
            with self._changed:
                self._running = None
                self._keep(job)

    def _next(self) -> Job | None:
        """The next job that is wanted; waits for one. None when all is over."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return None
                job = self._queue[0]
                if job.reason_to_stop():
                    self._drop(job)
                    continue
                self._queue.popleft()
                self._number()
                self._running = job
                return job

    def _run(self, job: Job) -> None:
        job.begin()
        try:
            found = job.work(job)
            if job.stopped:  # It has no steps, as a caption has none.
                raise Stopped(job.stopped)
            job.change(state="done", result=found.result, images=found.images)
        except Stopped as why:
            job.change(state="cancelled", error=str(why), images=())
        except UserError as error:
            words = " ".join(str(error).split())
            job.change(state="failed", error=words, images=())
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            short = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
            job.change(state="failed", error=_MEMORY if short else _FAILED, images=())

    def _drop(self, job: Job) -> None:
        """Takes a job that waits out of the queue."""
        self._queue.remove(job)
        job.change(state="cancelled", place=0, error=job.reason_to_stop())
        self._keep(job)

    def _keep(self, job: Job) -> None:
        """A finished job, until newer ones need its room; without what it asked for."""
        assert job.state in FINISHED
        job.work = None
        self._finished.append(job)
        size = sum(len(image) for each in self._finished for image in each.images)
        while len(self._finished) > 1 and (
            size > self.limits.kept or len(self._finished) > _MOST_KEPT
        ):
            old = self._finished.popleft()
            size -= sum(map(len, old.images))
            del self._jobs[old.id]

    def _number(self) -> None:
        """Tells those who wait their places, from 1."""
        for place, job in enumerate(self._queue, 1):
            if job.place != place:
                job.change(place=place)
