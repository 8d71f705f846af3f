import numpy as np
import pytest

from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example
from cogjax.errors import UserError
from cogjax.evaluate.judges.emoji import evaluate_emoji
from cogjax.evaluate.judges.style import train_judge
from cogjax.pipelines.contracts import Generation

STYLES = ("flat", "grey")
SIZE = 16


def picture(concept, style):
    rng = np.random.default_rng(concept)
    coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    if style == "grey":
        coarse = np.broadcast_to(coarse.mean(-1, keepdims=True), (4, 4, 3))
    return coarse.astype(np.uint8).repeat(SIZE // 4, 0).repeat(SIZE // 4, 1)


def example(concept, style):
    captions = [
        (language, text)
        for language in ("en", "zh")
        for text in (f"thing {concept}", f"thing {concept}, {style}")
    ]
    meta = {"concept": str(concept), "style": style}
    meta |= {f"label_{language}": f"thing {concept}" for language in ("en", "zh")}
    image = encode_png(picture(concept, style))
    return Example(f"{style}-{concept}", image, tuple(captions), meta)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    with DatasetBuilder(out, "emoji", SIZE, {"train": 1, "val": 1, "pairs": 1}) as to:
        for concept in range(40):
            for style in STYLES:
                split = "val" if concept > 36 else "train"
                held_out = concept == 5 and style == "grey"
                to.write("pairs" if held_out else split, example(concept, style))
        to.finish({})
    return str(out)


@pytest.fixture(scope="module", autouse=True)
def one_judge():
    """The style judge of the data is trained once: it sees nothing of the model."""
    with pytest.MonkeyPatch.context() as patch:
        # Two styles are told apart by less, which compiles sooner.
        patch.setattr("cogjax.evaluate.judges.style._WIDTHS", (16, 32, 64))
        trained = []

        def train_once(*args, **settings):
            trained.extend([] if trained else [train_judge(*args, **settings)])
            return trained[0]

        patch.setattr("cogjax.evaluate.judges.emoji.train_judge", train_once)
        yield


class Oracle:
    """Draws the real picture of a prompt, or of a wrong concept; knows all captions."""

    image_size = SIZE
    num_codes = 4

    def __init__(self, shift):
        self.shift = shift

    def generate(self, prompts, num_images, seed):
        rows = [self._row(prompt, num_images) for prompt in prompts]
        pixels = np.stack(rows)
        codes = np.zeros((len(prompts), num_images, 1, 1), int)
        codes[:, :] = np.arange(num_images)[None, :, None, None]
        return Generation(tuple(prompts), pixels, codes, None)

    def _row(self, prompt, num_images):
        concept, style = prompt.removeprefix("thing ").split(", ")
        right = picture((int(concept) + self.shift) % 40, style)
        wrong = picture((int(concept) + 7) % 40, style)
        return np.stack([wrong] + [right] * (num_images - 1))

    def score_codes(self, codes, texts):
        # Image 0 is the wrong one, and the first label is the right one.
        if len(set(texts)) == 20:
            return np.arange(20.0) * (1 if self.shift == 0 else -1)
        return np.where(codes[:, 0, 0] == 0, 2.0, 1.0)

    def encode(self, pixels):
        self.seen = pixels
        return np.arange(len(pixels))[:, None, None] % 2

    def decode(self, codes):
        return self.seen


def test_a_perfect_model(data):
    report, rows = evaluate_emoji(Oracle(0), data, n=20, best_of=3)
    seen = report["generation_train"]
    assert seen["best_of_3"]["concept_top5"]["all"]["share"] == 1
    assert seen["best_of_3"]["style"]["all"]["share"] > 0.9
    # Image 0 of the seed shows another concept.
    assert seen["best_of_1"]["concept_top1"]["all"]["share"] == 0
    assert seen["real_through_tokenizer"]["concept_top1"]["all"]["share"] == 1
    assert seen["best_of_1"]["style"]["en"]["n"] == 10
    assert report["captions_val"]["right_of_20"]["all"]["share"] == 1
    assert report["tokenizer"]["code_use_with_train"] == 0.5
    assert len(rows) == 13 and rows[0].shape[0] == 5


def test_a_wrong_model(data):
    report, _ = evaluate_emoji(Oracle(11), data, n=20, best_of=3)
    assert report["generation_train"]["best_of_3"]["concept_top1"]["all"]["share"] == 0
    assert report["captions_train"]["right_of_20"]["all"]["share"] == 0


def test_other_data_is_refused(tmp_path):
    with DatasetBuilder(tmp_path / "set", "folder", 8, {"train": 1}) as builder:
        builder.finish({})
    with pytest.raises(UserError, match="no emoji set"):
        evaluate_emoji(Oracle(0), str(tmp_path / "set"))
