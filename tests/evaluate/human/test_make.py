"""The folder of an evaluation: drawn, resumed, blind; and folders of images."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.evaluate.human import page as pages
from cogjax.evaluate.human.candidates import open_images
from cogjax.evaluate.human.make import Design, Drawing, make
from cogjax.evaluate.human.study import Prompt, read_key
from cogjax.pipelines.contracts import Generation

PROMPTS = [Prompt("a red <b>cat</b>", "x"), Prompt("</script> 猫", "y"), Prompt("dog")]
TEXTS = [prompt.text for prompt in PROMPTS]


class Painter:
    """Paints plain images of one grey; stops when it is told to."""

    batch_size = 2

    def __init__(self, grey, size=16):
        self.grey, self.image_size, self.calls, self.stop = grey, size, 0, None

    def check(self, request):
        if "forbidden" in request.prompts:
            raise UserError("prompt is forbidden")

    def generate(self, prompts, num_images, seed, **settings):
        if self.calls == self.stop:
            raise KeyboardInterrupt
        self.calls += 1
        shape = len(prompts), num_images, self.image_size, self.image_size, 3
        return Generation(tuple(prompts), np.full(shape, self.grey + seed, np.uint8))


def run(out, *contenders, design=None, prompts=PROMPTS):
    named = {f"model {i}": each for i, each in enumerate(contenders)}
    return make(out, named, prompts, design or Design("votes"), lambda *words: None)


def study_in(out):
    """What the page knows."""
    text = (out / "page.html").read_text("utf-8")
    found = re.search(r'id="study">(.*?)</script>', text, re.S)[1]
    return json.loads(found), text


def greys(facts):
    """The mean grey of each image of the page, by name."""
    found = {}
    for name, data in facts["images"].items():
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.info == {} and image.size == (24, 24)
        found[name] = np.asarray(image).mean()
    return found


def test_the_page_is_blind_and_the_key_is_not(tmp_path):
    out = tmp_path / "out"
    design = Design("votes", seed=3)
    study = run(out, Drawing(Painter(50), "d0"), Drawing(Painter(200, 24), "d1"),
                design=design)  # fmt: skip
    assert read_key(out / "key.json") == study and len(study.items) == 6
    facts, text = study_in(out)
    assert facts["prompts"] == TEXTS and "</script> 猫" not in text
    assert "model" not in json.dumps(facts)
    # They have one size and nothing in the files; and whose they are the key tells.
    seen = greys(facts)
    items = {item.id: item for item in study.items}
    for shown in facts["items"]:
        for candidate, image in shown["candidates"].items():
            model = items[shown["id"]].candidates[candidate]
            if model >= 0:
                assert seen[image] == (53, 203)[model]
    # Everyone gets all: there is no need to tell the checks from the others.
    assert all(shown["all"] for shown in facts["items"])
    secret = json.loads((out / "settings.json").read_text())["secret"]
    assert len(secret) == 32 and secret not in text


def test_a_stopped_run_goes_on_and_gives_the_same_page(tmp_path):
    slow = Painter(50)
    slow.stop = 0
    others = Drawing(Painter(200), "d1")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", others, Drawing(slow, "d0"))
    assert others.model.calls == 1 and not (tmp_path / "a" / "page.html").exists()
    slow.stop = None
    run(tmp_path / "a", others, Drawing(slow, "d0"))
    assert others.model.calls == 1 and slow.calls == 1
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "settings.json", tmp_path / "b")
    run(tmp_path / "b", Drawing(Painter(200), "d1"), Drawing(Painter(50), "d0"))
    first, second = (
        {name: (tmp_path / f / name).read_bytes() for name in ("page.html", "key.json")}
        for f in "ab"
    )
    assert first == second
    # Elsewhere names are others: none follows from what the page says of itself.
    other = run(tmp_path / "c", Drawing(Painter(200), "d1"), Drawing(Painter(50), "d0"))
    items = read_key(tmp_path / "a" / "key.json").items
    assert not {i.id for i in items} & {i.id for i in other.items}
    with pytest.raises(UserError, match="something else: seed is 0 there, 1 here"):
        run(tmp_path / "a", others, Drawing(slow, "d0"), design=Design("votes", seed=1))
    with pytest.raises(UserError, match="something else: models is "):
        run(tmp_path / "a", others, Drawing(slow, "d9"))


def test_sets_of_images_and_all_models(tmp_path):
    models = [Drawing(Painter(grey), str(grey)) for grey in (10, 20, 30)]
    run(tmp_path / "sets", *models[:2], design=Design("categories", checks=0))
    facts, _ = study_in(tmp_path / "sets")
    assert len(facts["items"]) == 3 and facts["choices"]["fidelity"] == "same"
    image = Image.open(
        io.BytesIO(base64.b64decode(next(iter(facts["images"].values()))))
    )
    assert image.size == (4 * 16 + 3 * 2, 2 * 16 + 2)
    run(tmp_path / "all", *models, design=Design("scores", checks=1, per_rater=2))
    facts, _ = study_in(tmp_path / "all")
    assert [len(item["candidates"]) for item in facts["items"]] == [3] * 4
    assert facts["perRater"] == 2 and facts["aspects"]
    assert [item["all"] for item in facts["items"]].count(True) == 1


@pytest.fixture
def folder(tmp_path):
    """Images with captions, two of each prompt, of odd shapes."""
    path = tmp_path / "given"
    path.mkdir()
    for i, text in enumerate(TEXTS * 2):
        pixels = np.full((10 + i, 20, 3), 40 * i, np.uint8)
        (path / f"{i}.png").write_bytes(encode_png(pixels, {"model": "secret"}))
        (path / f"{i}.txt").write_text(text, "utf-8")
    return path


def test_a_folder_stands_in_for_a_model(folder, tmp_path):
    given = open_images(folder)
    design = Design("votes", num_images=2, checks=0)
    run(tmp_path / "out", given, Drawing(Painter(50, 64), "d"), design=design)
    facts, text = study_in(tmp_path / "out")
    assert "secret" not in text and len(facts["images"]) == 4
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())
    with pytest.raises(UserError, match="something else: models"):
        run(tmp_path / "out", given, Drawing(Painter(50, 64), "d"), design=design)
    with pytest.raises(UserError, match="fewer than 3 images of 3 of 3 prompts"):
        run(tmp_path / "x", given, given, design=Design("votes", num_images=3))
    (folder / "1.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match="image 1.png in .*not a readable image"):
        run(tmp_path / "x", given, given, design=design)
    assert not (tmp_path / "x").exists()


def test_photographs_are_kept_as_small_as_they_are_shown(tmp_path):
    pixels = np.zeros((300, 1200, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(pixels))
    (tmp_path / "a.txt").write_text("dog")
    given = open_images(tmp_path)
    ((image,),) = given.read(["dog"], 1)
    assert image.shape == (128, 512, 3)
    first = given.digest(["dog"], 1)
    pixels[0, 0] = 1  # Too little to be seen when it is small.
    (tmp_path / "a.png").write_bytes(encode_png(pixels))
    assert given.digest(["dog"], 1) != first


def test_folders_of_generate(folder, tmp_path):
    images = [{"prompt": t, "file": f"{i}.png"} for i, t in enumerate(TEXTS)]
    record = folder / "generation.json"
    record.write_text(json.dumps({"images": images}), "utf-8")
    assert list(open_images(folder).images) == TEXTS
    record.write_text(json.dumps({"images": [{"prompt": "a", "file": "../x.png"}]}))
    with pytest.raises(UserError, match=r"names '../x.png', which is not in its"):
        open_images(folder)
    record.write_text("{")
    with pytest.raises(UserError, match="is no record of `cogjax generate`"):
        open_images(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is no model, and has no generation"):
        open_images(tmp_path / "empty")


def test_mistakes_before_any_drawing(tmp_path, monkeypatch):
    models = Drawing(Painter(1), "a"), Drawing(Painter(2), "b")
    with pytest.raises(UserError, match="--checks 4: there are 3 prompts"):
        run(tmp_path / "x", *models, design=Design("votes", checks=4))
    with pytest.raises(UserError, match="is forbidden"):
        run(tmp_path / "x", *models, prompts=[Prompt("forbidden")])
    assert not (tmp_path / "x").exists()
    assert not models[0].model.calls + models[1].model.calls
    monkeypatch.setattr(pages, "MAX_BYTES", 1)
    with pytest.raises(UserError, match="the page would have 0 MB, at most 0"):
        run(tmp_path / "x", *models)
    assert not (tmp_path / "x").exists()
    assert not models[0].model.calls + models[1].model.calls


def test_a_page_that_turns_out_too_large(tmp_path, monkeypatch):
    """Noise hardly packs: what was expected to fit does not, and nothing is left."""
    rng = np.random.default_rng(0)

    class Noisy(Painter):
        def generate(self, prompts, *rest, **settings):
            shape = len(prompts), 1, 64, 64, 3
            return Generation(tuple(prompts), rng.integers(0, 256, shape, np.uint8))

    monkeypatch.setattr(pages, "MAX_BYTES", 70_000)
    models = Drawing(Noisy(0, 64), "a"), Drawing(Noisy(1, 64), "b")
    with pytest.raises(UserError, match="the page would have 0 MB, at most 0"):
        run(tmp_path / "x", *models, design=Design("votes", checks=0))
    assert (tmp_path / "x" / "settings.json").exists()
    assert not (tmp_path / "x" / "page.html").exists()
