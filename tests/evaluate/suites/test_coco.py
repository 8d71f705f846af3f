from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.evaluate.metrics.frechet import Moments, frechet_distance
from cogjax.evaluate.suites.coco import CocoSuite
from cogjax.evaluate.suites.run import run
from cogjax.pipelines.contracts import Generation
from cogjax.worlds.coco import Captioned

COUNT, SIZE = 12, 16


class Copier:
    """Knows that caption i is of grey level 10 i + 20, and draws that, or another.

    Candidate 0 is always wrong; the caption loss is the distance of grey levels.
    """

    image_size, num_codes, batch_size = SIZE, 256, 5

    def __init__(self, knows=True):
        self.knows, self.calls = knows, 0

    def generate(self, prompts, num_images, seed, guidance=None, temperature=None):
        self.calls += 1
        codes = np.full((len(prompts), num_images, SIZE, SIZE), 255, np.int32)
        if self.knows:
            for row, text in zip(codes, prompts, strict=True):
                row[1:] = grey(text)
        pixels = self.decode(codes.reshape(-1, SIZE, SIZE))
        return Generation(tuple(prompts), pixels.reshape(*codes.shape, 3), codes, None)

    def score_codes(self, codes, texts):
        levels = np.array([grey(text) for text in texts])
        return np.abs(codes[:, 0, 0] - levels).astype(np.float32)

    def encode(self, images):
        return images[..., 0].astype(np.int32)

    def decode(self, codes):
        return np.repeat(codes[..., None], 3, -1).astype(np.uint8)


def grey(text):
    return 10 * int(text.split()[1]) + 20


class Corners:
    """Features: the grey level of a corner, and one that never changes."""

    id, resize = "corners:1", "none"

    def __call__(self, images):
        corner = images[:, 0, 0, 0].astype(float)
        return np.stack([corner, np.ones(len(images))], 1)

    def outputs(self, images):
        return self(images), None


@pytest.fixture
def suite(tmp_path):
    captions = []
    for i in range(COUNT):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (24, SIZE), (10 * i + 20,) * 3).save(path)
        captions.append(Captioned(f"thing {i}", path))
    return CocoSuite(captions, "captions_val.json", best_of=2, distractors=3)


def evaluate(model, suite, out=None):
    report = run(suite, model, out=out, identity={}, about={"model": "copier"})
    figures = [(f["name"], f["value"]) for f in report["generated"]]
    return report, dict(figures)


def test_a_model_that_draws_what_was_said(suite):
    report, figures = evaluate(Copier(), replace(suite, extractor=Corners()))
    assert figures["CapLoss[without_end]"] == 0
    assert figures["R-precision[3 distractors]"] == 1
    assert figures["FD-corners-0[both]"] == pytest.approx(0, abs=1e-9)
    assert list(figures)[2:] == [
        *(f"FD-corners-{k}[both]" for k in (0, 1, 2, 4, 8)),
        "FD-inf-corners",
        "KID-corners",
        "precision",
        "recall",
    ]
    assert figures["precision"] == figures["recall"] == 1
    # Unbiased: a little below 0 for a set against itself.
    assert figures["KID-corners"] < 0 < kid_of_white(suite)
    assert report["photographs"][0]["value"] == 0
    assert [p["caption"] for p in report["images"]][:2] == ["thing 0", "thing 1"]
    assert report["extractor"] == "corners:1"
    distance = next(f for f in report["generated"] if f["name"] == "FD-corners-2[both]")
    assert distance["blur"] == "both, pil, radius 2"
    assert distance["n"] == distance["reference"] == COUNT


def test_a_model_that_draws_anything(suite):
    suite = replace(suite, extractor=Corners(), blur=("reference", "pil"))
    report, figures = evaluate(Copier(knows=False), suite)
    levels = np.array([grey(text.caption) for text in suite.captions])
    assert figures["CapLoss[without_end]"] == pytest.approx(np.mean(255 - levels))
    # The brightest caption of four wins: by chance that of the picture.
    assert figures["R-precision[3 distractors]"] < 0.6
    photographs, white = Moments.of(levels[:, None]), Moments.of(np.full((12, 1), 255))
    wanted = frechet_distance(
        photographs.mean, photographs.covariance, white.mean, white.covariance
    )
    assert figures["FD-corners-0[reference]"] == pytest.approx(wanted)
    assert figures["precision"] == figures["recall"] == 0
    # The line of a set that is all white says what a large one would.
    assert figures["FD-inf-corners"] == pytest.approx(wanted)
    assert figures["KID-corners"] == pytest.approx(kid_of_white(suite))
    assert report["photographs"][0]["value"] == 0


def kid_of_white(suite):
    """KID of white images by its definition: the kernel of two numbers, cubed."""
    x = np.array([[grey(text.caption), 1.0] for text in suite.captions])
    white = np.tile([255.0, 1.0], (COUNT, 1))
    own, cross, other = (
        (a @ b.T / 2 + 1) ** 3 for a, b in ((x, x), (x, white), (white, white))
    )
    within = [np.sum(k) - np.trace(k) for k in (own, other)]
    return sum(within) / (COUNT * (COUNT - 1)) - 2 * cross.mean()


class Clip(Corners):
    """Images and captions as angles by their grey level."""

    id = "clip-vit-l-14-336:1"

    def __call__(self, images):
        return self.at(images[:, 0, 0, 0])

    def text(self, captions):
        self.asked = captions
        return self.at(
            [grey(text.removeprefix("A photo depicts ")) for text in captions]
        )

    def at(self, levels):
        angles = np.array(levels) / 200
        return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_clip_judges_images_and_photographs(suite):
    report, figures = evaluate(Copier(), replace(suite, clip=Clip()))
    assert list(figures)[1:] == [
        "R-precision[3 distractors]",
        "CMMD",
        "clip_cosine",
        "clipscore_2.5",
    ]
    assert [f["extractor"] for f in report["generated"][1:3]] == [
        "model, its own captioning",
        Clip.id,
    ]
    assert figures["CMMD"] == pytest.approx(0, abs=1e-9)
    assert figures["clip_cosine"] == pytest.approx(1)
    assert figures["clipscore_2.5"] == pytest.approx(2.5)
    names = [f["name"] for f in report["photographs"]]
    assert names[1:] == ["clip_cosine", "clipscore_2.5", "R-precision[3 distractors]"]
    assert [f["value"] for f in report["photographs"][1:]] == pytest.approx([1, 2.5, 1])
    assert report["clip"] == Clip.id

    _, figures = evaluate(Copier(knows=False), replace(suite, clip=Clip()))
    angles = np.array([grey(text.caption) for text in suite.captions]) / 200
    wanted = np.cos(angles - 255 / 200).mean()
    assert figures["clip_cosine"] == pytest.approx(wanted)
    assert figures["CMMD"] > 1


def test_one_candidate_is_the_first(suite):
    _, figures = evaluate(Copier(), replace(suite, best_of=0))
    assert figures["CapLoss[without_end]"] > 100


def test_a_classifier_gives_an_inception_score(suite):
    class Classifying(Corners):
        """Sure that a picture is darker than 80, or else that it is not; biased."""

        def outputs(self, images):
            dark = images[:, 0, 0, :1] < 80
            return self(images), np.where(dark, [50.0, 0.0], [0.0, 50.0]) + [99, 0]

        def without_bias(self, logits):
            return logits - [99, 0]

    # Ten splits of twelve pictures: two have two pictures, one of them of both kinds.
    order = (1, 2, 3, 4, 0, 9, 5, 6, 10, 11, 7, 8)
    captions = [suite.captions[i] for i in order]
    suite = replace(suite, extractor=Classifying(), captions=captions)
    _, figures = evaluate(Copier(), suite)
    names = [name for name in figures if name.startswith("IS")]
    assert names == [f"IS-corners[{x}]" for x in ("dmgan", "guided", "torch-fidelity")]
    assert figures["IS-corners[dmgan]"] == pytest.approx((9 * 1 + 2) / 10)


def test_a_second_run_draws_nothing(suite, tmp_path):
    model, out = Copier(), tmp_path / "out"
    first, _ = evaluate(model, suite, out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "://" not in page
    assert page.count('class="double"') == 36
    assert "caption loss 0.000" in page
    calls = model.calls
    assert evaluate(model, suite, out)[0] == first
    assert model.calls == calls
    with pytest.raises(UserError, match="distractors is 3 there, 4 here"):
        evaluate(model, replace(suite, distractors=4), out)


def test_too_few_captions(suite):
    with pytest.raises(UserError, match="12 captions are too few for 12 distractors"):
        evaluate(Copier(), replace(suite, distractors=12))
    same = [replace(c, caption="thing 1") for c in suite.captions]
    with pytest.raises(UserError, match="12 of 12 captions are 'thing 1'"):
        evaluate(Copier(), replace(suite, captions=same))
