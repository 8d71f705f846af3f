import pytest

from cogjax.tasks.adversarial import Judge
from cogjax.tasks.image_loss import PictureConfig


def test_it_halves_whole_pictures():
    settings = PictureConfig(disc_layers=3)
    for size in (16, 100):
        with pytest.raises(ValueError, match="multiple of 8 and at least 24"):
            Judge(settings, size)
    assert Judge(settings, 72).network.config.patches(72) == 7
