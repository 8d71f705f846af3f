"""What `cogjax generate` keeps when it is stopped, and that its grids are known."""

import json

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import cli
from cogjax.pipelines.contracts import Generation, Part


class Slow:
    """Gives one prompt after the other, and is stopped at the third."""

    card = {"name": "slow"}

    def __init__(self, stop):
        self.stop = stop

    def check(self, request): ...

    generate = check

    def settings(self, request):
        return {"num_images": request.num_images}

    def generate_parts(self, request, *, progress):
        for i, prompt in enumerate(request.prompts):
            progress(i, len(request.prompts), "generating")
            if i == 2:
                raise self.stop
            count = request.num_images
            pixels = np.full((1, count, 8, 8, 3), 40 * i, np.uint8)
            codes = np.full((1, count, 2, 2), i, np.int32)
            result = Generation((prompt,), pixels, codes, None, ("",), (prompt,))
            yield Part(range(i, i + 1), range(count), result)

    def caption(self, images, language=None, **search):
        return ["seen"] * len(images)

    ask = score = unseen = caption


@pytest.fixture
def generate(monkeypatch, tmp_path):
    def run(prompts, stop=None):
        model = Slow(stop)
        monkeypatch.setitem(vars(cogjax), "load", lambda name, **settings: model)
        out = str(tmp_path / "out")
        return cli.main(["generate", *prompts, "--num-images", "2", "--out", out])

    return run


def test_an_interrupt_keeps_what_is_done(generate, tmp_path, capsys):
    assert generate("abcd", KeyboardInterrupt()) == 130
    said = capsys.readouterr().err.splitlines()
    out = tmp_path / "out"
    assert said[0] == f"generating: 0 of 4, into {out}"
    assert said[-2] == f"4 of 8 images, grid.png and generation.json in {out}"
    assert said[-1] == "cogjax: interrupted"
    record = json.loads((out / "generation.json").read_text("utf-8"))
    assert record["unfinished"] == "4 of 8 images"
    files = [image["file"] for image in record["images"]]
    assert files == ["a-1.png", "a-2.png", "b-1.png", "b-2.png"]
    assert {path.name for path in out.iterdir()} == {
        *files,
        "grid.png",
        "generation.json",
    }
    assert record["prompts"] == list("abcd") and record["unread"] == [""] * 4
    own = json.loads(Image.open(out / "b-2.png").text["cogjax"])
    assert (own["prompt"], own["index"]) == ("b", 1)


def test_an_error_keeps_what_is_done_too(generate, tmp_path, capsys):
    assert generate("abc", MemoryError()) == 2
    assert "out of memory" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("?-?.png"))) == 4


def test_a_whole_record_says_nothing_of_an_end(generate, tmp_path, capsys):
    assert generate("ab") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("4 images, grid.png and generation.json")
    assert "the model has not seen: a, b\n" in shown.err
    record = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    assert "unfinished" not in record


def test_a_grid_is_no_image(generate, tmp_path, capsys):
    assert generate("ab") == 0
    out = tmp_path / "out"
    capsys.readouterr()
    assert cli.main(["caption", str(out / "a-1.png")]) == 0
    for words in (["caption"], ["score", "a cat"], ["ask", "what?"]):
        command = [words[0], str(out / "grid.png"), *words[1:]]
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert "is a grid of 4 images" in said and "such as 'a-1.png'" in said


def test_a_recipe_of_others_is_no_grid(tmp_path):
    from cogjax.commands.arguments import read_image
    from cogjax.data.images import encode_png, recipe_of

    pixels = np.zeros((8, 8, 3), np.uint8)
    for recipe in ({"grid": 3}, [1], "grid", {"grid": []}):
        data = encode_png(pixels, recipe)
        (tmp_path / "a.png").write_bytes(data)
        assert read_image(str(tmp_path / "a.png")).shape == (8, 8, 3)
    assert recipe_of(encode_png(pixels, {"grid": ["a"]})) == {"grid": ["a"]}
    assert recipe_of(b"GIF89a") == recipe_of(encode_png(pixels)) == {}
