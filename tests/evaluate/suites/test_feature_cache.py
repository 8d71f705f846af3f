import numpy as np
import pytest

from cogjax.evaluate.suites.feature_cache import kept_features

IMAGES = [bytes([i]) * 3 for i in range(6)]


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Asks for features of images; the second value is what had to be made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def ask(images, extractor="net:12"):
        made = []

        def extract(chunk):
            made.extend(chunk)
            return np.array([[image[0], 0.5] for image in chunk], np.float32)

        quiet = lambda done, total, label: None  # noqa: E731
        found = kept_features(extractor, images, extract, quiet)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [[image[0], 0.5] for image in images])
        return made

    return ask


def test_only_new_images_are_read(ask):
    assert ask(IMAGES[:3]) == IMAGES[:3]
    assert ask(IMAGES[1:5]) == IMAGES[3:5]
    assert ask(IMAGES[::-1]) == [IMAGES[5]]
    assert ask(IMAGES) == []


def test_another_network_has_its_own(ask):
    ask(IMAGES)
    assert ask(IMAGES, "net:34") == IMAGES


def test_a_damaged_file_is_made_again(ask, tmp_path):
    ask(IMAGES)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    assert ask(IMAGES) == IMAGES
    assert ask(IMAGES) == []
