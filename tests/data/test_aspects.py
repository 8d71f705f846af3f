import pytest

from cogjax.data.aspects import (
    BUCKETS,
    aspect,
    listed,
    nearest,
    of_aspect,
    of_model,
    of_names,
    spelled,
)
from cogjax.errors import UserError

SHAPES = ((8, 8), (6, 12), (12, 6))  # rows and columns of codes


def test_sides_have_the_aspect_and_about_the_pixels_of_the_square():
    assert of_aspect(64, "2:1") == (48, 96)
    assert of_aspect(64, "1:2") == (96, 48)
    assert of_aspect(72, "1:1") == (72, 72)
    for size in (64, 256, 512):
        for text in BUCKETS:
            height, width = of_aspect(size, text)
            assert height % 8 == width % 8 == 0
            assert 0.8 < height * width / size**2 < 1.2
            assert width / height == pytest.approx(aspect(text), rel=0.04)


@pytest.mark.parametrize(
    "text", ["3", "3x2", "0:1", "-1:1", ":", "a:b", "9:1", 3, "", "1:" + "9" * 5000]
)
def test_what_is_no_aspect(text):
    with pytest.raises(UserError, match="aspect is"):
        aspect(text)


def test_a_model_draws_the_shapes_that_it_knows():
    assert of_model(SHAPES, "2:1") == (6, 12)
    assert of_model(SHAPES, "15:8") == (6, 12)
    with pytest.raises(UserError) as caught:
        of_model(SHAPES, "3:2")
    assert str(caught.value) == (
        "aspect is 3:2, which this model was not trained on: it draws "
        "1:1 (8 x 8 codes), 2:1 (6 x 12 codes), 1:2 (12 x 6 codes)"
    )


def test_an_image_takes_the_shape_of_the_nearest_aspect():
    assert nearest(SHAPES, (100, 130)) == (8, 8)
    assert nearest(SHAPES, (100, 150)) == (6, 12)
    assert nearest(SHAPES, (300, 10)) == (12, 6)


def test_names_of_shapes_are_sorted_from_the_square_on():
    assert of_names(["12x6", "6x12", "8x8", "6x12"]) == ((8, 8), (6, 12), (12, 6))
    assert listed(of_names(["6x9"])) == "3:2 (6 x 9 codes)"
    for wrong in ("8", "x", "0x4", "axb"):
        with pytest.raises(ValueError):
            of_names([wrong])


def test_a_shape_is_named_by_the_usual_aspect_that_it_nearly_has():
    shapes = [(8, 8), (13, 20), (20, 13), (9, 16), (6, 12), (15, 16), (1, 8)]
    names = ["1:1", "3:2", "2:3", "16:9", "2:1", "16:15", "8:1"]
    assert [spelled(*shape) for shape in shapes] == names
    for shape, text in zip(shapes, names, strict=True):
        assert of_model(shapes, text) == shape
