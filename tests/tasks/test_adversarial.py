import pytest

from cogjax.tasks.adversarial import AdversarialConfig, AdversarialLoss


def test_it_halves_whole_images():
    settings = AdversarialConfig(disc_layers=3)
    for size in (16, 100):
        with pytest.raises(ValueError, match="multiple of 8 and at least 24"):
            AdversarialLoss(settings, size)
    assert AdversarialLoss(settings, 72).network.config.patches(72) == 7
