"""Images of the nano model that the tests of pipelines share."""

import pytest

PROMPTS = ("a red apple", "一只猫的线稿", "line drawing of a whale")


@pytest.fixture(scope="session")
def drawn(nano_model):
    """Two images of each prompt, of seed 3."""
    return nano_model.generate(PROMPTS, num_images=2, seed=3)


@pytest.fixture(scope="session")
def pictures(drawn):
    return drawn.pixels[:, 0]
