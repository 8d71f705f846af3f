"""The Python API on a nano model with random weights."""

import dataclasses

import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.errors import Notice, UserError
from cogjax.model import Model
from cogjax.pipelines.reader import Search
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.sampling.tokens import autoregressive

IMAGE = np.zeros((16, 16, 3), np.uint8)
PROMPTS = ("a red apple", "一只猫的线稿", "line drawing of a whale")


def greedy(model, prompts=PROMPTS, seed=0, **settings):
    """Codes of one image of each prompt, with guidance."""
    settings |= {"temperature": 0, "guidance": 2.0}
    return model.generate(prompts, 1, seed=seed, **settings).codes


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


@pytest.fixture(scope="module")
def one_by_one(nano_model):
    """Five images of each prompt, none beside another."""
    return TokensPipeline(nano_model.model, 1).generate(PROMPTS, 5, seed=3)


def test_a_picture_does_not_depend_on_its_company(nano_model, drawn, one_by_one):
    """Also where 5 images of 3 prompts share batches of 3 or 8."""
    np.testing.assert_array_equal(one_by_one.codes[:, :2], drawn.codes)
    np.testing.assert_array_equal(one_by_one.pixels[:, :2], drawn.pixels)
    for size in (3, 8):
        many = TokensPipeline(nano_model.model, size).generate(PROMPTS, 5, seed=3)
        np.testing.assert_array_equal(many.codes, one_by_one.codes)


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
    np.testing.assert_array_equal(greedy(nano_model, seed=1), greedy(nano_model))


def test_rerank_keeps_the_lowest_caption_losses(nano_model, drawn):
    each = zip(drawn.codes, PROMPTS, strict=True)
    losses = np.array([nano_model.score_codes(row, [text] * 2) for row, text in each])
    order = losses.argsort(1)
    assert (order[:, 0] == 0).any() and (order[:, 0] == 1).any()
    for count in (1, 2):
        best = nano_model.generate(PROMPTS, count, seed=3, rerank=2)
        want = np.take_along_axis(losses, order[:, :count], 1)
        np.testing.assert_allclose(best.scores, want, rtol=1e-6)
        codes = drawn.codes[np.arange(3)[:, None], order[:, :count]]
        np.testing.assert_array_equal(best.codes, codes)


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
    """On request; what only the old one had goes, all that is no model's stays."""
    nano_model.save(tmp_path)
    (tmp_path / "card.md").write_text("mine")
    tokenizer = {"tokenizer": nano_model.model["tokenizer"]}
    with pytest.raises(UserError, match="holds a model folder.*--overwrite"):
        model_folder.save(Model("cogview", tokenizer), tmp_path)
    assert cogjax.load(tmp_path).card == nano_model.card
    model_folder.save(Model("cogview", tokenizer), tmp_path, overwrite=True)
    names = ["card.md", "config.json", "tokenizer.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "card.md").read_text() == "mine"
    nano_model.save(tmp_path, overwrite=True)
    assert cogjax.load(tmp_path).card == nano_model.card


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "thesis.txt"])
def test_a_model_is_saved_over_nothing_else(nano_model, tmp_path, name):
    (tmp_path / name).write_text('{"format": 1, "name": "my app"}')
    with pytest.raises(UserError, match="not empty and not a model folder"):
        nano_model.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"format": 1, "name": "my app"}'


@pytest.mark.parametrize("folder", [5, None, b"model"])
def test_a_folder_is_a_name(nano_model, folder):
    with pytest.raises(UserError, match="the output is .*, expected the name of"):
        nano_model.save(folder)


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
    ("settings", "message"),
    [
        ({"num_images": 10**9}, "num_images is 1000000000"),
        ({"keep": np.ones((3, 3), bool), "image": IMAGE}, r"have \[4, 4\] codes"),
        ({"rerank_by": print}, "set rerank"),
        ({"rerank_by": "clip", "rerank": 8}, "expected a function of images and texts"),
    ],
)
def test_bad_values(nano_model, settings, message):
    with pytest.raises(UserError, match=message):
        nano_model.generate("a cat", **settings)


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
    best = nano_model.generate(PROMPTS, rerank_by=darkness, **settings)
    means = drawn.pixels.reshape(3, 2, -1).mean(2)
    np.testing.assert_allclose(best.scores[:, 0], means.min(1))
    rows = np.arange(3), means.argmin(1)
    np.testing.assert_array_equal(best.pixels[:, 0], drawn.pixels[rows])
    assert seen == [text for text in PROMPTS for _ in range(2)]
    with pytest.raises(UserError, match=r"gives \[2\], expected a score an image, \[6"):
        nano_model.generate(PROMPTS, rerank_by=lambda *args: np.zeros(2), **settings)


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
    nano_model.generate(PROMPTS, 1, rerank=2)
    assert texts == list(PROMPTS)


def test_a_text_that_is_not_read_to_its_end_is_said(nano_model, drawn, pictures):
    """Both directions; the images are those of what is read."""
    prompt = "a red apple beside ten blue whales"
    ids = nano_model.model.text.encode(prompt)
    most = nano_model.layout.text_len
    rest = nano_model.model.text.decode(ids[most:])
    message = rf"has {len(ids)} pieces and the model reads {most}; left off: '{rest}'"
    with pytest.warns(Notice, match=f"prompt 2 {message}"):
        found = nano_model.generate(["red", prompt, "x"], num_images=2, seed=3)
    assert found.unread == ("", rest, "")
    assert len(ids) > most and prompt.endswith(rest)
    # That of "a red apple", which begins alike.
    np.testing.assert_array_equal(found.codes[1], drawn.codes[0])
    with pytest.warns(Notice, match=f"a text {message}"):
        nano_model.score(pictures[:1], prompt)


def test_the_sampler_of_a_cascade_is_refused(nano_model):
    wrong = dataclasses.replace(nano_model.model, sampler=CascadeSampler())
    with pytest.raises(UserError, match="sampler is that of a cascade"):
        TokensPipeline(wrong)


def test_unknown_model():
    with pytest.raises(UserError, match="one of: clip-icons, clip-shapes, emoji"):
        cogjax.load("emojo")
    with pytest.raises(UserError, match="the model is 5, expected a model folder"):
        cogjax.load(5)


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
    nano_model.generate("x", 1, **first)
    before = len(compilations)
    assert before
    for numbers in others:
        nano_model.generate("x", 1, **first | numbers)
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


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_weights_in_few_bits_draw_nearly_the_same(nano_folder, drawn, weights):
    model = cogjax.load(nano_folder, weights=weights)
    codes = model.generate(PROMPTS, num_images=2, seed=3).codes
    assert (codes == drawn.codes).mean() > 0.9


def test_unknown_weights(nano_folder):
    with pytest.raises(UserError, match="weights is 'int4', expected one of: float32"):
        cogjax.load(nano_folder, weights="int4")


def test_speculation_draws_pictures(nano_model):
    """The likeliest codes, as without it, and in every batch."""
    want = greedy(nano_model)
    for n in (1, 2):
        got = greedy(nano_model, PROMPTS[:n], speculate=4)
        np.testing.assert_array_equal(got, want[:n])


@pytest.mark.parametrize("size", [1, -2, 1000])
def test_bad_speculation(nano_model, size):
    with pytest.raises(UserError, match=f"speculate is {size}, expected 0 or 2 to"):
        nano_model.generate("a", speculate=size)
    with pytest.raises(UserError, match="speculate has no preview"):
        nano_model.generate("a", speculate=4, preview=print)
