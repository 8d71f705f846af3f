import pytest

from cogjax.data.caption_cleaning import clean_caption


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (
            "A blue Porsche 356 parked in front of a yellow brick wall.",
            "a blue porsche 356 parked in front of a yellow brick wall.",
        ),
        ("a dog,a cat", "a dog, a cat"),
        ("“Welcome Friends!” — it’s <b>bold</b>", '"welcome friends!" - it\'s bold'),
        ("see https://a.b/c?d=e a red fox (jc6640) #12345", "see a red fox"),
        ("dogs &amp; cats 800x600 photo.jpg", "dogs cats"),
        ("a cat.png.jpg here, .png and b.jpgs", "a here, and s"),
        ("red_blue-green_and-more", "red blue green and more"),
        ("一只猫", "一只猫"),
    ],
)
def test_captions_as_training_read_them(text, cleaned):
    assert clean_caption(text) == cleaned
