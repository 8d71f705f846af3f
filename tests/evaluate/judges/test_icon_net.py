import jax
import numpy as np
import pytest

from cogjax.evaluate.judges import icon_net
from cogjax.models.icon_net import FEATURES

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def random_weights():
    """The shipped weights are not needed to see what the networks are shown."""

    def weights(net, *shape):
        shapes = jax.eval_shape(net.init, jax.random.key(0), np.zeros(shape))["params"]
        return jax.tree.map(lambda x: RNG.normal(0, 0.1, x.shape) + 0.1, shapes)

    concept = weights(icon_net.CONCEPT_NET, 1, 64, 64)
    both = {"concept": concept, "style": weights(icon_net.STYLE_NET, 1, 64, 64, 3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(icon_net, "_shipped", lambda: both)
        yield


def strokes(color, size=64, seed=0):
    mask = np.random.default_rng(seed).random((8, 8)) < 0.4
    mask = mask.repeat(size // 8, 0).repeat(size // 8, 1)[..., None]
    return np.where(mask, np.array(color, np.uint8), np.uint8(255))


def test_features_see_no_colour():
    images = [strokes(c) for c in ((224, 32, 32), (34, 34, 34), (240, 196, 0))]
    found = icon_net.features(np.stack([*images, strokes((34, 34, 34), seed=1)]))
    assert found.shape == (4, FEATURES) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], atol=1e-4)
    assert np.abs(found[3] - found[0]).max() > 1e-3


def test_an_image_is_judged_alone():
    images = np.stack([strokes((34, 34, 34), seed=i) for i in range(3)])
    alone = np.concatenate([icon_net.features(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(icon_net.features(images), alone, atol=1e-5)


def test_styles_are_names_of_the_set_and_see_colour():
    images = np.stack([strokes((224, 32, 32), 128), strokes((32, 32, 224), 128)])
    assert set(icon_net.styles(images)) <= set(icon_net.STYLES)


def test_without_colour_the_darkest_pixel_is_black():
    (image,) = icon_net.without_color(strokes((240, 196, 0))[None])
    np.testing.assert_array_equal(image, strokes((0, 0, 0)))
    # Nearly white paper is not stretched into strokes.
    (paper,) = icon_net.without_color(strokes((252, 252, 252))[None])
    assert paper.min() > 200
