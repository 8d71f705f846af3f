import numpy as np

from cogjax.evaluate.judges.neighbours import concept_ranks, embed

RNG = np.random.default_rng(0)
# Large flat areas, as drawings have: the blur must not remove them.
IMAGES = (
    RNG.integers(0, 256, (30, 4, 4, 3)).astype(np.uint8).repeat(16, 1).repeat(16, 2)
)
NAMES = [f"c{i}" for i in range(30)]


def test_a_picture_is_nearest_to_itself_in_any_size():
    gallery = embed(IMAGES)
    noise = RNG.normal(0, 20, IMAGES.shape)
    noisy = np.clip(IMAGES + noise, 0, 255).astype(np.uint8)
    larger = IMAGES.repeat(2, 1).repeat(2, 2)
    for queries in (IMAGES, noisy, larger):
        ranks = concept_ranks(embed(queries), NAMES, gallery, NAMES)
        np.testing.assert_array_equal(ranks, np.zeros(30))


def test_unrelated_pictures_rank_at_chance():
    gallery = embed(IMAGES)
    shuffled = np.roll(np.arange(30), 7)
    ranks = concept_ranks(gallery, [NAMES[i] for i in shuffled], gallery, NAMES)
    assert 8 < ranks.mean() < 21


def test_embedding_keeps_the_mean_colour():
    np.testing.assert_allclose(
        embed(np.full((1, 50, 50, 3), 51, np.uint8)), np.full((1, 768), 0.2), atol=1e-6
    )
