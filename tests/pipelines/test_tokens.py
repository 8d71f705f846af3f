"""The Python API on a nano model with random weights."""

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import model_folder
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.pipelines.contracts import Codec, Generator, Reader, expect
from cogjax.pipelines.reader import Search
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.sampling.tokens import autoregressive

IMAGE = np.zeros((16, 16, 3), np.uint8)
PROMPTS = ("a red apple", "一只猫的线稿", "line drawing of a whale")


@pytest.fixture(scope="module")
def drawn(nano_model):
    return nano_model.generate(PROMPTS, num_images=2, seed=3)


@pytest.fixture(scope="module")
def pictures(drawn):
    return drawn.pixels[:, 0]


def test_shapes_and_ranges(nano_model, drawn):
    side, grid = nano_model.image_size, nano_model.grid
    assert drawn.prompts == PROMPTS
    assert drawn.pixels.shape == (3, 2, side, side, 3)
    assert drawn.pixels.dtype == np.uint8
    assert drawn.codes.shape == (3, 2, grid, grid)
    assert 0 <= drawn.codes.min() <= drawn.codes.max() < nano_model.num_codes
    assert drawn.scores is None
    assert [image.size for image in drawn.images] == [(side, side)] * 6
    np.testing.assert_array_equal(np.asarray(drawn.images[3]), drawn.pixels[1, 1])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_picture_does_not_depend_on_its_company(nano_model, drawn, batch_size):
    other = TokensPipeline(nano_model.model, batch_size)
    alone = other.generate(PROMPTS[1], num_images=2, seed=3)
    np.testing.assert_array_equal(alone.codes[0], drawn.codes[1])
    np.testing.assert_array_equal(alone.pixels[0], drawn.pixels[1])


def test_seed_prompt_and_image_number_change_the_picture(nano_model, drawn):
    again = nano_model.generate(PROMPTS, num_images=2, seed=4)
    assert (again.codes[0, 0] != drawn.codes[0, 0]).any()
    assert (drawn.codes[0, 0] != drawn.codes[0, 1]).any()
    # Random weights hardly listen to the text unless guidance makes them.
    loud = nano_model.generate(PROMPTS, 1, seed=3, guidance=4.0).codes.reshape(3, -1)
    assert len(np.unique(loud, axis=0)) == 3


def test_guidance_and_temperature_reach_the_sampler(nano_model, drawn):
    other = nano_model.generate(PROMPTS, num_images=2, seed=3, top_p=0.01)
    assert (other.codes != drawn.codes).any()
    greedy = [
        nano_model.generate(PROMPTS, 1, seed=seed, temperature=0).codes
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*greedy)


def test_rerank_keeps_the_lowest_caption_losses(nano_model):
    prompt = PROMPTS[0]
    candidates = nano_model.generate(prompt, num_images=6, seed=1)
    losses = nano_model.score_codes(candidates.codes[0], [prompt] * 6)
    best = nano_model.generate(prompt, num_images=2, seed=1, rerank=6)
    order = np.argsort(losses)[:2]
    np.testing.assert_allclose(best.scores[0], losses[order], rtol=1e-6)
    np.testing.assert_array_equal(best.codes[0], candidates.codes[0][order])


def test_image_prompt_keeps_its_rows(nano_model, pictures):
    given = nano_model.encode(pictures)[0]
    keep = np.repeat(np.arange(nano_model.grid)[:, None] < 2, nano_model.grid, axis=1)
    settings = {"image": pictures[0], "keep": keep}
    done = nano_model.generate(PROMPTS[0], 1, seed=9, **settings)
    np.testing.assert_array_equal(done.codes[0, 0, :2], given[:2])
    other = nano_model.generate(PROMPTS[0], 1, seed=10, **settings)
    assert (done.codes[0, 0, 2:] != other.codes[0, 0, 2:]).any()


def test_decode_is_what_generate_shows(nano_model, drawn):
    decoded = nano_model.decode(drawn.codes[:, 0])
    np.testing.assert_array_equal(decoded, drawn.pixels[:, 0])


def test_encode_takes_one_picture_or_many(nano_model, pictures):
    many = nano_model.encode(pictures)
    np.testing.assert_array_equal(nano_model.encode(pictures[1]), many[1:2])


def test_caption_is_text_in_the_language(nano_model, pictures):
    english = nano_model.caption(pictures, "en", temperature=1.0, seed=5)
    chinese = nano_model.caption(pictures, "zh", temperature=1.0, seed=5)
    assert len(english) == len(chinese) == 3
    assert not any("\u4e00" <= c <= "\u9fff" for text in english for c in text)
    assert not any(c.isascii() and c.islower() for text in chinese for c in text)
    assert nano_model.caption(Image.fromarray(pictures[0])) == nano_model.caption(
        pictures[:1]
    )


def test_score_is_per_pair(nano_model, pictures):
    scores = nano_model.score(pictures, PROMPTS)
    alone = nano_model.score(pictures[2:], PROMPTS[2:])
    np.testing.assert_allclose(scores[2:], alone, rtol=1e-5)
    assert len(set(nano_model.score(pictures[[0, 0]], PROMPTS[:2]))) == 2


def test_one_text_is_scored_for_each_image(nano_model, pictures):
    want = nano_model.score(pictures, PROMPTS[:1] * 3)
    np.testing.assert_array_equal(nano_model.score(pictures, PROMPTS[0]), want)
    codes = nano_model.encode(pictures)
    want = nano_model.image_losses(codes, PROMPTS[:1] * 3)
    np.testing.assert_array_equal(nano_model.image_losses(codes, PROMPTS[0]), want)


def test_score_is_the_mean_over_text_tokens(nano_model, pictures):
    pieces = nano_model.model.text.encode(PROMPTS[0])
    codes = nano_model.encode(pictures[:1])[0].reshape(-1)
    prompt = nano_model.layout.caption_prompt(codes)
    ids, _ = nano_model.layout.image_to_text(pieces, codes)
    network = {"params": nano_model.model["transformer"].params}
    places = np.arange(len(ids))[None]
    logits, _ = nano_model._generator.apply(network, ids[None, :-1], places[:, :-1])
    start, stop = nano_model.layout.vocab.text_start, nano_model.layout.vocab.size
    logits = np.asarray(logits, np.float64)[0, len(prompt) - 1 :, start:stop]
    values = np.log(np.exp(logits).sum(-1)) - [
        row[i] for row, i in zip(logits, ids[len(prompt) :] - start, strict=True)
    ]
    expected = values[: min(len(pieces), nano_model.layout.text_len)].mean()
    got = nano_model.score(pictures[:1], PROMPTS[:1])
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_image_losses_is_the_mean_over_codes(nano_model, drawn):
    """Of prompts of different length, each alone and without padding."""
    got = nano_model.image_losses(drawn.codes[:, 0], PROMPTS)
    network = {"params": nano_model.model["transformer"].params}
    for prompt, grid, value in zip(PROMPTS, drawn.codes[:, 0], got, strict=True):
        start = nano_model.layout.prompt(nano_model.model.text.encode(prompt))
        codes = grid.reshape(-1)
        ids = np.array([[*start, *codes[:-1]]])
        logits, _ = nano_model._generator.apply(
            network, ids, np.arange(ids.shape[1])[None]
        )
        logits = np.asarray(logits, np.float64)[0, len(start) - 1 :]
        logits = logits[:, : nano_model.num_codes]
        losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(codes)), codes]
        np.testing.assert_allclose(value, losses.mean(), rtol=1e-5)
    with pytest.raises(UserError, match="3 images but 1 texts"):
        nano_model.image_losses(drawn.codes[:, 0], ["a"])


def test_progress_counts_up_to_the_total(nano_model):
    seen = []
    nano_model.generate(
        PROMPTS,
        num_images=1,
        rerank=2,
        progress=lambda done, total, label: seen.append((done, total)),
    )
    assert seen[-1] == (6, 6)
    assert all(0 <= done <= total for done, total in seen)


def test_save_and_load_draw_the_same(nano_model, nano_folder, drawn):
    loaded = cogjax.load(nano_folder)
    assert loaded.card == nano_model.card
    again = loaded.generate(PROMPTS, num_images=2, seed=3)
    np.testing.assert_array_equal(again.pixels, drawn.pixels)
    names = {path.name for path in nano_folder.iterdir()}
    assert names == {
        "config.json",
        "text.model",
        "tokenizer.safetensors",
        "transformer.safetensors",
    }


def test_saving_replaces_a_model_whole(nano_model, tmp_path):
    """What only the old one had goes, all that is no model's stays."""
    nano_model.save(tmp_path)
    (tmp_path / "card.md").write_text("mine")
    tokenizer = {"tokenizer": nano_model.model["tokenizer"]}
    model_folder.save(Model("cogview", tokenizer), tmp_path)
    names = ["card.md", "config.json", "tokenizer.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "card.md").read_text() == "mine"
    nano_model.save(tmp_path)
    assert cogjax.load(tmp_path).card == nano_model.card


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "thesis.txt"])
def test_a_model_is_saved_over_nothing_else(nano_model, tmp_path, name):
    (tmp_path / name).write_text('{"format": 1, "name": "my app"}')
    with pytest.raises(UserError, match="not empty and not a model folder"):
        nano_model.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"format": 1, "name": "my app"}'


def test_half_precision_folder_is_close(nano_model, tmp_path, pictures):
    loaded = cogjax.load(nano_model.save(tmp_path / "half", "float16"))
    want = nano_model.score(pictures, PROMPTS)
    np.testing.assert_allclose(loaded.score(pictures, PROMPTS), want, rtol=1e-2)
    size = [
        sum(p.stat().st_size for p in folder.glob("*.safetensors"))
        for folder in (tmp_path / "half", nano_model.save(tmp_path / "full"))
    ]
    assert size[0] < 0.6 * size[1]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"prompts": ()}, "no prompt"),
        ({"prompts": " "}, "prompt 1 is empty"),
        ({"prompts": 5}, "prompts is 5, expected a text or a list of texts"),
        ({"prompts": ["a", 5]}, "prompt 2 is 5, expected a text"),
        ({"prompts": ["a"] * 10_001}, "10001 prompts, at most 10000"),
        ({"num_images": 10**9}, "num_images is 1000000000, .* from 1 to 1000"),
        ({"num_images": 2.5}, "num_images is 2.5, expected a whole number"),
        ({"num_images": True}, "num_images is True"),
        ({"rerank": 10**9}, "rerank is 1000000000, .* from 0 to 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"guidance": 1e308}, "guidance is 1e.308, expected a number from 0 to 100"),
        ({"temperature": "hot"}, "temperature is 'hot', expected a number"),
        ({"decode": "states"}, "decode is 'states'"),
        ({"temprature": 1.0}, "no setting 'temprature': did you mean 'temperature'"),
        ({"num_images": 0}, "num_images is 0"),
        ({"num_images": 4, "rerank": 2}, "at least num_images"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"keep": np.ones((4, 4), bool)}, "give both or neither"),
        ({"image": IMAGE}, "give both or neither"),
        ({"image": IMAGE, "keep": np.ones((4, 4))}, "expected bool .grid, grid."),
        (
            {"image": IMAGE, "keep": np.ones((3, 3), bool)},
            r"images have \[4, 4\] codes",
        ),
        ({"image": IMAGE[0, 0], "keep": np.ones((4, 4), bool)}, "expected a PIL image"),
        ({"reranker": print}, "set rerank"),
    ],
)
def test_bad_values(nano_model, settings, message):
    with pytest.raises(UserError, match=message):
        nano_model.generate(**{"prompts": "a cat"} | settings)


def test_bad_arrays(nano_model):
    with pytest.raises(UserError, match="encode expects uint8"):
        nano_model.encode(np.zeros((1, 16, 16, 3)))
    with pytest.raises(UserError, match="n > 0"):
        nano_model.encode(np.zeros((0, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="1 images but 2 texts"):
        nano_model.score(np.zeros((1, 16, 16, 3), np.uint8), ["a", "b"])
    with pytest.raises(UserError, match="no image"):
        nano_model.caption([])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((1, 3, 3), int), r"codes are int64 \[1, 3, 3\], expected integers"),
        (np.zeros((0, 4, 4), int), "n > 0"),
        (np.zeros((1, 4, 4)), "codes are float64"),
        (np.full((1, 4, 4), -1), "codes are from -1 to -1, expected 0 to 31"),
        (np.full((1, 4, 4), 10**6), "to 1000000, expected 0 to"),
    ],
)
def test_codes_that_are_none(nano_model, codes, message):
    """At every door that takes codes."""
    for use in (
        nano_model.decode,
        lambda codes: nano_model.score_codes(codes, "a"),
        lambda codes: nano_model.image_losses(codes, "a"),
        lambda codes: nano_model.caption_codes(codes, None, Search()),
    ):
        with pytest.raises(UserError, match=message):
            use(codes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("a.png", "images is 'a.png', expected PIL images"),
        (5, "images is 5"),
        (np.zeros((1, 16, 16, 3)), "ndarray float64"),
        (np.zeros((1, 1, 16, 16, 3), np.uint8), "expected a PIL image or pixels uint8"),
    ],
)
def test_images_that_are_none(nano_model, images, message):
    with pytest.raises(UserError, match=message):
        nano_model.caption(images)


def test_pixels_of_one_image_are_one_image(nano_model, pictures):
    want = nano_model.score(pictures[:1], PROMPTS[0])
    np.testing.assert_array_equal(nano_model.score(pictures[0], PROMPTS[0]), want)


def test_any_codes_are_kept_and_the_others_generated(nano_model, pictures):
    """Those behind a kept code see it; those before it are as without."""
    given = nano_model.encode(pictures[:1])[0]
    keep = np.zeros(given.shape, bool)
    keep[1, 2] = keep[2, 0] = True
    free = nano_model.generate(PROMPTS[0], 1, seed=9).codes[0, 0]
    done = nano_model.generate(PROMPTS[0], 1, seed=9, image=pictures[0], keep=keep)
    codes = done.codes[0, 0]
    np.testing.assert_array_equal(codes[keep], given[keep])
    np.testing.assert_array_equal(codes.flat[:6], free.flat[:6])
    assert (codes[~keep] != given[~keep]).any()


def test_another_reranker_sees_images_and_texts(nano_model, drawn):
    """The darkest first; what it is given is what would be shown."""
    seen = []

    def darkness(images, texts):
        seen.extend(texts)
        return images.reshape(len(images), -1).mean(1)

    settings = {"num_images": 1, "seed": 3, "rerank": 2}
    best = nano_model.generate(PROMPTS, reranker=darkness, **settings)
    means = drawn.pixels.reshape(3, 2, -1).mean(2)
    np.testing.assert_allclose(best.scores[:, 0], means.min(1))
    rows = np.arange(3), means.argmin(1)
    np.testing.assert_array_equal(best.pixels[:, 0], drawn.pixels[rows])
    assert seen == [text for text in PROMPTS for _ in range(2)]
    with pytest.raises(UserError, match=r"gives \[2\], expected a score an image, \[6"):
        nano_model.generate(PROMPTS, reranker=lambda *args: np.zeros(2), **settings)


def test_a_request_is_the_same_as_its_settings(nano_model, drawn):
    request = Request(PROMPTS, num_images=2, seed=3)
    np.testing.assert_array_equal(nano_model.generate(request).codes, drawn.codes)
    with pytest.raises(UserError, match="seed, top_k beside a Request"):
        nano_model.generate(request, seed=1, top_k=3)
    assert nano_model.settings(request)["num_images"] == 2


def test_texts_are_tokenized_once(nano_model, monkeypatch):
    texts, encode = [], type(nano_model.model.text).encode
    monkeypatch.setattr(
        type(nano_model.model.text),
        "encode",
        lambda self, text: texts.append(text) or encode(self, text),
    )
    nano_model.generate(PROMPTS[:2], 1, rerank=2)
    assert texts == list(PROMPTS[:2])


def test_what_a_model_can_do_is_a_type(nano_model):
    for kind in (Generator, Reader, Codec):
        assert expect(nano_model, kind) is nano_model
    with pytest.raises(UserError, match="this model does not read images"):
        expect(object(), Reader)


def test_unknown_model():
    with pytest.raises(UserError, match="one of: emoji"):
        cogjax.load("emojo")


def test_preview_shows_each_finished_row(nano_model, drawn):
    seen = []
    again = nano_model.generate(
        PROMPTS, 2, seed=3, preview=lambda pairs, codes: seen.append((pairs, codes))
    )
    np.testing.assert_array_equal(again.codes, drawn.codes)
    grid = nano_model.grid
    assert len(seen) == grid
    for row, (pairs, codes) in enumerate(seen):
        assert pairs == [(p, i) for p in range(3) for i in range(2)]
        want = drawn.codes.reshape(6, grid, grid).copy()
        want[:, row + 1 :] = -1
        np.testing.assert_array_equal(codes, want)


def test_another_prompt_compiles_nothing(nano_model):
    nano_model.generate(PROMPTS[0], 1, seed=0)
    functions = autoregressive.compiled_prefill, autoregressive.advance_program()
    sizes = [function._cache_size() for function in functions]
    for prompt in ("x", "a much longer prompt of many words, line drawing", "一只猫"):
        nano_model.generate(prompt, 1, seed=1)
    assert sizes == [function._cache_size() for function in functions]


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (
            {"temperature": 1, "guidance": 2},
            [{"temperature": 0.7, "guidance": 1.5}, {"temperature": 1.0}],
        ),
        (
            {"top_k": 5, "top_p": 0.9, "guidance": 1},
            [{"top_k": 7}, {"top_p": 0.5}, {"top_k": 10**6}],
        ),
        ({"temperature": 0}, [{"temperature": 0.0, "top_k": 3, "top_p": 0.5}]),
        ({"speculate": 2}, [{"temperature": 0.7}, {"temperature": 2}]),
    ],
    ids=("guided", "cut", "greedy", "speculating"),
)
def test_another_number_compiles_nothing(nano_model, compilations, first, others):
    nano_model.generate("x", **first)
    before = len(compilations)
    assert before
    for numbers in others:
        nano_model.generate("x", **first | numbers)
    assert len(compilations) == before


def test_another_search_compiles_nothing(nano_model, compilations):
    codes = np.zeros((1, nano_model.grid, nano_model.grid), np.int32)

    def captions(*searches):
        for search in searches:
            nano_model.caption_codes(codes, None, search)
        return len(compilations)

    before = captions(Search(temperature=1), Search(beams=2, length_penalty=1))
    assert before
    assert before == captions(
        Search(temperature=0.5, seed=2),
        Search(temperature=2.0),
        Search(beams=2, length_penalty=0.5),
    )


def test_many_prompts_and_images_share_batches(nano_model):
    """5 images of 3 prompts in batches of 4: all drawn, each as it would be alone."""
    other = TokensPipeline(nano_model.model, batch_size=4)
    got = other.generate(PROMPTS, num_images=5, seed=3).codes
    for p, prompt in enumerate(PROMPTS):
        alone = nano_model.generate(prompt, num_images=5, seed=3).codes[0]
        np.testing.assert_array_equal(got[p], alone)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_weights_in_few_bits_draw_nearly_the_same(nano_folder, drawn, weights):
    model = cogjax.load(nano_folder, weights=weights)
    codes = model.generate(PROMPTS, num_images=2, seed=3).codes
    assert (codes == drawn.codes).mean() > 0.9


def test_unknown_weights(nano_folder):
    with pytest.raises(UserError, match="weights is 'int4', expected one of: float32"):
        cogjax.load(nano_folder, weights="int4")


def test_speculation_draws_pictures(nano_model):
    one, many = (
        nano_model.generate(PROMPTS[:n], 1, seed=3, speculate=4, guidance=2.0).codes
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one[0], many[0])
    greedy = nano_model.generate(PROMPTS[:1], 1, temperature=0)
    faster = nano_model.generate(PROMPTS[:1], 1, temperature=0, speculate=4)
    np.testing.assert_array_equal(faster.codes, greedy.codes)


@pytest.mark.parametrize("size", [1, -2, 1000])
def test_bad_speculation(nano_model, size):
    with pytest.raises(UserError, match=f"speculate is {size}, expected 0 or 2 to"):
        nano_model.generate("a", speculate=size)
    with pytest.raises(UserError, match="speculate has no preview"):
        nano_model.generate("a", speculate=4, preview=print)
