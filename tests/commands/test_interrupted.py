"""What `cogjax generate` leaves at any moment of its work, and when signals come."""

import json
import signal

import numpy as np
import pytest

import cogjax
from cogjax import cli
from cogjax.data.images import open_image
from cogjax.pipelines import saving
from cogjax.pipelines.contracts import Generation, Part
from tests.commands.test_generate import Slow


class Watched(Slow):
    """Calls `look` with the number of each part before it makes it."""

    def __init__(self, look):
        super().__init__(None)
        self.look = look

    def generate_parts(self, request, *, progress):
        for i, prompt in enumerate(request.prompts):
            progress(i, len(request.prompts), "generating")
            self.look(i)
            pixels = np.full((1, request.num_images, 8, 8, 3), i, np.uint8)
            result = Generation((prompt,), pixels, None, None, ("",), ())
            yield Part(range(i, i + 1), range(request.num_images), result)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def generate(monkeypatch, out):
    def run(prompts, look=lambda part: None):
        model = Watched(look)
        monkeypatch.setitem(vars(cogjax), "load", lambda name, **settings: model)
        return cli.main(["generate", *prompts, "--num-images", "2", "--out", str(out)])

    return run


@pytest.fixture
def deaf():
    """SIGTERM ends no tests; afterwards the handler must be this one again."""

    def ignore(number, frame): ...

    old = signal.signal(signal.SIGTERM, ignore)
    yield
    assert signal.signal(signal.SIGTERM, old) is ignore


def record_of(out, name="generation.json"):
    return json.loads((out / name).read_text("utf-8"))


def test_the_record_grows_with_the_images(generate, out):
    seen = []

    def look(part):
        if part:
            record = record_of(out)
            names = [image["file"] for image in record["images"]]
            assert all((out / name).is_file() for name in names)
            assert "grid" not in record and record["prompts"] == list("abc")
            seen.append((len(names), record["unfinished"]))

    assert generate("abc", look) == 0
    assert seen == [(2, "2 of 6 images"), (4, "4 of 6 images")]
    record = record_of(out)
    assert "unfinished" not in record and list(record)[-2:] == ["grid", "images"]
    assert sorted(x.name for x in out.glob("*.json")) == ["generation.json"]
    generate("a")
    assert record_of(out, "generation-2.json")["grid"] == "grid-2.png"


def test_large_records_are_not_written_after_each_part(generate, out, monkeypatch):
    monkeypatch.setattr(saving, "_SMALL", -1000.0)
    counts = []
    look = lambda part: part and counts.append(len(record_of(out)["images"]))  # noqa: E731
    assert generate("abcd", look) == 0
    assert counts == [2, 2, 2] and len(record_of(out)["images"]) == 8


def test_the_record_is_there_before_the_grid(generate, out, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "grid", full)
    assert generate("ab") == 2
    record = record_of(out)
    assert len(record["images"]) == 4 and "grid" not in record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_and_keeps_what_is_done(generate, out, deaf, number):
    assert (
        generate("abc", lambda part: part == 2 and signal.raise_signal(number)) == 130
    )
    record = record_of(out)
    assert record["unfinished"] == "4 of 6 images" and record["grid"] == "grid.png"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_part_that_is_finished_is_written(generate, out, deaf, number, monkeypatch):
    write = saving.write_numbered

    def interrupted(folder, stem, *rest, **settings):
        if stem == "b":
            signal.raise_signal(number)
        return write(folder, stem, *rest, **settings)

    monkeypatch.setattr(saving, "write_numbered", interrupted)
    assert generate("abc") == 130
    record = record_of(out)
    names = [image["file"] for image in record["images"]]
    assert names == ["a-1.png", "a-2.png", "b-1.png", "b-2.png"]
    assert record["unfinished"] == "4 of 6 images"
    assert all((out / name).is_file() for name in names)


def test_many_images_have_several_grids(generate, out, monkeypatch, capsys):
    monkeypatch.setattr(saving, "_MOST", 5)
    look = lambda part: there.append((out / "grid.png").exists())  # noqa: E731
    there = []
    assert generate("abc", look) == 0
    assert there == [False, False, True]
    assert "6 images, grid.png, grid-2.png and gen" in capsys.readouterr().out
    record = record_of(out)
    assert record["grid"] == "grid.png"
    assert record["grids"] == ["grid.png", "grid-2.png"]
    first, second = (open_image(out / name) for name in record["grids"])
    assert np.asarray(first).shape == (18, 18, 3)
    assert np.asarray(first)[::10, 0, 0].tolist() == [0, 1]
    assert np.asarray(second).shape == (8, 18, 3) and np.asarray(second)[0, 0, 0] == 2


def test_grids_of_large_images_have_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "_MOST_PIXELS", 4 * 64)
    pixels = np.arange(6, dtype=np.uint8).reshape(1, 6, 1, 1, 1)
    made = Generation(("x",), np.broadcast_to(pixels, (1, 6, 8, 8, 3)))
    made.save(tmp_path)
    sizes = [open_image(tmp_path / name).size for name in record_of(tmp_path)["grids"]]
    assert sizes == [(18, 18), (18, 8)]
