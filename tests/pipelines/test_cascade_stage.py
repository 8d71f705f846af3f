"""What a stage of a cascade asks of its network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.nn.unet import Text
from cogjax.pipelines import cascade_stage
from cogjax.pipelines.cascade_stage import Inputs, Numbers, StageProgram
from cogjax.sampling.diffusion.settings import CascadeSampler
from tests.models.test_unet import TINY_SR
from tests.reference import diffusion as reference

KEYS = jax.random.split(jax.random.key(0), 8)
# Small images of one colour each: they stay so when they are enlarged.
COLOURS = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 1, 1, 3)
SMALL = np.broadcast_to(COLOURS, (8, 4, 4, 3))
TEXT = Text(np.ones((8, 2, 6), np.float32), np.ones((8, 2), bool))


class Echo:
    def apply(self, variables, *args):
        del variables
        self.seen = args
        return args[0]


def seen(monkeypatch, augmentation, level):
    """(small images, their log-SNRs) that the network reads."""
    stage = StageProgram(
        TINY_SR, "v", "cosine", augmentation, 4, "ddim", guided=False, dynamic=False
    )
    network = Echo()
    monkeypatch.setattr(cascade_stage, "network_of", lambda config: network)
    sampler = CascadeSampler(augmentation=level)

    @jax.jit
    def run(keys, small):
        inputs = Inputs(TEXT, Numbers.of(sampler, 8), small)
        denoise = cascade_stage._denoiser(stage, {}, keys, inputs)
        denoise(jnp.zeros((8, *stage.shape)), jnp.zeros(8))
        return network.seen[3:]

    return map(np.asarray, run(KEYS, SMALL))


@pytest.mark.parametrize("level", [0.0, 0.3])
@pytest.mark.parametrize("augmentation", ["linear", "cosine"])
def test_noise_is_added_to_normalised_images_and_its_level_told(
    monkeypatch, augmentation, level
):
    small, log_snr = seen(monkeypatch, augmentation, level)
    signal = reference.cosine_alpha_bar(level)
    if augmentation == "linear":
        signal = np.exp(-1e-4 - 10 * level**2)
    np.testing.assert_allclose(log_snr, reference.log_snr(signal), rtol=1e-3)
    left = (small - np.sqrt(signal) * COLOURS) / np.sqrt(1 - signal)
    assert left.std() == pytest.approx(1, abs=0.05) and abs(left.mean()) < 0.1
    # At level 0 it is the small image, to within a part in a hundred.
    assert level or np.abs(small - COLOURS).std() < 0.013
    # Each image has noise of its own.
    assert np.abs(np.corrcoef(left.reshape(8, -1)) - np.eye(8)).max() < 0.4
