"""The watchdog, the spike detector, the agreement of processes, and goodput alone."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from cogjax.errors import UserError
from cogjax.train import processes, watchdog
from cogjax.train.goodput import Goodput
from cogjax.train.loop import TrainConfig
from cogjax.train.metrics import Logger
from cogjax.train.spikes import Spikes


def test_spike_is_against_the_running_median():
    spikes = Spikes(3.0)
    assert not any(spikes.seen(loss) for loss in (900.0, *[2.0] * 7))
    assert spikes.seen(5.9) == 0
    assert spikes.seen(6.2) == 3.1
    assert spikes.seen(float("nan")) == 0
    # A level that stays becomes the usual one.
    times = [spikes.seen(8.0) for _ in range(20)]
    assert times[0] == 4 and times[-1] == 0


def test_deadline_follows_the_median_step(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    dog = watchdog.Watchdog(tmp_path, 60.0)
    dog.expect_long()
    assert dog._deadline == 1800
    for seconds, deadline in ((40, 400), (2, 252), (2, 64), (2, 66)):
        now[0] += seconds
        dog.step()
        wait = max(60, 10 * np.median(dog._steps))
        assert dog._deadline == now[0] + wait, deadline


def test_watchdog_at_zero_is_off(tmp_path):
    with watchdog.Watchdog(tmp_path, 0.0) as dog:
        assert not dog._thread.is_alive()


def test_differing_key_is_named_on_every_process(monkeypatch):
    """As if two processes gathered: the other one has a seed and a code of its own."""
    ours = processes._facts({"optim": {"lr": 0.1}}, "data", TrainConfig(seed=1))
    theirs = {**ours, "config.train.seed": "2", "cogjax source": "0"}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    other = np.frombuffer(processes.json.dumps(theirs).encode(), np.uint8)

    def gather(value):
        if value.ndim == 0:
            return np.array([value, other.size])
        padded = np.full(value.size, ord(" "), np.uint8)
        padded[: other.size] = other
        return np.stack([value, padded])

    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    message = "differ in config.train.seed: 1 on process 0, 2 on process 1"
    with pytest.raises(UserError, match=message):
        processes.check_agreement({"optim": {"lr": 0.1}}, "data", TrainConfig(seed=1))
    theirs = {**ours, "config.optim.lr": "0.1"}
    other = np.frombuffer(processes.json.dumps(theirs).encode(), np.uint8)
    processes.check_agreement({"optim": {"lr": 0.1}}, "data", TrainConfig(seed=1))


def test_rows_of_seconds_add_up():
    goodput = Goodput()
    goodput.add("step", 3.0)
    first = goodput.take()
    goodput.add("step", 1.0)
    goodput.add("lost", 2.0)
    second = goodput.take()
    assert (first["seconds/step"], second["seconds/step"]) == (3.0, 1.0)
    assert second["seconds/lost"] == 2.0
    assert str(goodput).startswith("67% of 6.0 s in steps")


def test_a_row_that_a_crash_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time": 5}\n{"step": 2, "time": 7.5}\n{"step": 3, "ti')
    logger = Logger(tmp_path, 1)
    logger.close()
    assert path.read_text() == '{"step": 1, "time": 5}\n'


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_loss_spike": 0.5}, "max_loss_spike' must be above 1"),
        ({"max_rollbacks": 1}, "needs train.max_loss_spike"),
        ({"step_timeout": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**values)
