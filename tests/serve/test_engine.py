"""One worker: turns, places, previews, and the ways in which work ends early."""

import threading
import time

import pytest

from cogjax.errors import UserError
from cogjax.serve import job as jobs
from cogjax.serve.engine import Engine, Full
from cogjax.serve.job import Limits, Outcome


class Gate:
    """Work that goes on step by step, when the test lets it."""

    def __init__(self, error=None):
        self.started, self.step = threading.Event(), threading.Semaphore(0)
        self.error = error

    def __call__(self, job):
        self.started.set()
        for i in range(3):
            while not self.step.acquire(timeout=0.02):
                job.go_on()
            job.progress(i, 3, "generating")
        if self.error:
            raise self.error
        return Outcome({"seed": 1}, (b"png",))

    def open(self):
        self.step.release(3)


@pytest.fixture
def make():
    made = []

    def engine(**limits):
        made.append(Engine(Limits(**limits)))
        return made[-1]

    yield engine
    for each in made:
        each.close(10)
        assert not each._thread.is_alive()


def wait(job):
    deadline = time.monotonic() + 10
    while job.state not in jobs.FINISHED:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return job.snapshot()


def test_jobs_are_done_in_turn_and_know_their_places(make):
    engine, gates = make(), [Gate() for _ in range(3)]
    first, second, third = (engine.submit(gate) for gate in gates)
    assert gates[0].started.wait(10)
    assert [each.snapshot()["place"] for each in (first, second, third)] == [0, 1, 2]
    gates[0].open()
    assert gates[1].started.wait(10) and not gates[2].started.is_set()
    assert third.place == 1
    gates[1].open()
    gates[2].open()
    found = wait(third)
    assert (found["state"], found["seed"], found["images"]) == ("done", 1, 1)
    assert (found["done"], found["total"], found["doing"]) == (2, 3, "generating")
    assert engine.get(third.id) is third and third.images == (b"png",)
    assert third.work is None  # What it was given goes.


def test_a_full_queue_refuses_until_somebody_leaves(make):
    engine, gate = make(queue=2), Gate()
    running = engine.submit(gate)
    assert gate.started.wait(10)
    waiting = engine.submit(Gate())
    engine.submit(Gate())
    with pytest.raises(Full):
        engine.submit(Gate())
    engine.cancel(waiting)
    assert waiting.snapshot()["state"] == "cancelled"
    assert engine.submit(Gate()).place == 2
    engine.cancel(running)
    gate.open()
    assert wait(running)["error"] == "cancelled"


def test_work_without_steps_is_dropped_when_it_was_cancelled(make):
    """Meanwhile those who look are told that it will stop."""
    started, end, told = threading.Event(), threading.Event(), []

    def work(job):
        started.set()
        assert end.wait(10)
        return Outcome({"caption": "a cat"})

    engine = make()
    job = engine.submit(work)
    with job.watched(lambda: told.append(job.snapshot()["doing"])):
        assert started.wait(10)
        engine.cancel(job)
    assert told[-1] == "stopping"
    end.set()
    found = wait(job)
    assert (found["state"], found["error"]) == ("cancelled", "cancelled")
    assert "caption" not in found


def test_mistakes_end_in_a_line_and_the_worker_goes_on(make, capsys):
    engine = make()
    gates = [Gate(UserError("no\n cat")), Gate(KeyError("x")), Gate(MemoryError())]
    found = []
    for gate in [*gates, Gate()]:
        gate.open()
        found.append(wait(engine.submit(gate)))
    states = [each["state"] for each in found]
    assert states == ["failed", "failed", "failed", "done"]
    assert found[0]["error"] == "no cat"
    assert "its log says why" in found[1]["error"]
    assert "ask for fewer images" in found[2]["error"]
    assert "KeyError: 'x'" in capsys.readouterr().err


def test_work_that_nobody_wants_is_dropped(make, monkeypatch):
    monkeypatch.setattr(jobs, "LEAVING", 0.0)
    engine, gate, other = make(patience=0.0, queue=1), Gate(), Gate()
    running = engine.submit(gate)
    with running.watched(lambda: None):
        assert gate.started.wait(10)
        gate.step.release()  # Somebody looks: it goes on.
        waiting = engine.submit(other)
        # The one that waits is looked at by nobody, and makes room.
        engine.submit(Gate())
        assert waiting.error == "nobody asked for it any more"
    gate.step.release()
    assert wait(running)["error"] == "nobody asked for it any more"
    assert not other.started.is_set()


def test_asking_keeps_work_alive(make):
    engine, gate = make(patience=0.3), Gate()
    job = engine.submit(gate)
    for _ in range(3):
        time.sleep(0.2)
        job.ask()
        gate.step.release()
    assert wait(job)["state"] == "done"


def test_work_may_not_last_for_ever(make):
    engine, gate = make(seconds=0.05), Gate()
    job = engine.submit(gate)
    assert gate.started.wait(10)
    time.sleep(0.1)
    gate.open()
    assert "stopped after 0.05 seconds" in wait(job)["error"]


def test_previews_are_made_for_those_who_look_and_take_a_part_of_the_time(make):
    made, seen = [], []
    started, looking = threading.Event(), threading.Event()

    def preview():
        made.append(len(made))
        time.sleep(0.05)
        return (b"preview",)

    def work(job):
        job.show(preview)  # Nobody looks.
        started.set()
        assert not made and looking.wait(10)
        job.show(preview)
        assert job.snapshot()["images"] == 1
        job.show(preview)  # Too soon.
        assert made == [0]
        time.sleep(0.2)
        job.show(preview)
        return Outcome({}, (b"image", b"image"))

    job = make().submit(work)
    assert started.wait(10)
    with job.watched(lambda: seen.append(job.snapshot()["version"])):
        looking.set()
        assert wait(job)["images"] == 2
    assert made == [0, 1] and seen[-1] == 3


def test_newer_images_need_the_room_of_older_ones(make):
    engine = make(kept=9)
    found = []
    for _ in range(4):
        gate = Gate()
        gate.open()
        found.append(engine.submit(gate))
        wait(found[-1])
    engine.close(10)
    there = [engine.get(job.id) is not None for job in found]
    assert there == [False, True, True, True]  # 3 bytes each.


def test_closing_ends_what_runs_and_what_waits(make):
    engine, gate = make(), Gate()
    running, waiting = engine.submit(gate), engine.submit(Gate())
    assert gate.started.wait(10)
    threading.Timer(0.05, gate.open).start()
    engine.close(10)
    for job in (running, waiting):
        assert job.snapshot()["error"] == "the server is closing"
    with pytest.raises(Full):
        engine.submit(Gate())
