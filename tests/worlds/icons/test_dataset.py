import numpy as np
import pytest

from cogjax.data.images import decode_image
from cogjax.data.output import Output
from cogjax.data.records import open_split
from cogjax.errors import UserError
from cogjax.worlds import drawings
from cogjax.worlds.emoji import sources
from cogjax.worlds.icons import dataset, iconpark
from cogjax.worlds.icons.dataset import build_icons
from cogjax.worlds.icons.palette import PALETTE
from tests.worlds.icons import archives

pytest.importorskip("pyvips")


@pytest.fixture(autouse=True)
def no_packages(monkeypatch):
    """The styles of PyPI packages are those of the archives here."""
    styles = [s for s in dataset.EMOJI_STYLES if s in sources._ARCHIVES]
    monkeypatch.setattr(dataset, "EMOJI_STYLES", tuple(styles))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "npm"
    folder.mkdir()
    archives.make(folder)
    return folder


def read(path):
    return {
        example.id: (split, example)
        for split in dataset.SPLITS
        for source in [open_split(path, split)]
        for example in (source[i] for i in range(len(source)))
    }


def test_a_set_from_archives(tmp_path, folder):
    report = build_icons(Output(tmp_path / "out", 32), npm_dir=folder, workers=1)
    assert report.failed == [] and report.left_out["company logo"] == 1
    # Cat has four themes, one cake three, the other one: in two colours each.
    assert {s: n for s, n in report.styles.items() if s.startswith("icon")} == {
        "icon-outline": 6,
        "icon-filled": 4,
        "icon-two-tone": 4,
        "icon-multi-color": 2,
    }
    # The two renders of fluent-3d are the same image.
    assert report.left_out["same image as another"] == 1
    assert report.styles["fluent-3d"] == 1 and report.styles["fxemoji"] == 2
    counts = report.manifest.info["counts"]
    assert counts["concepts"] == 4 and counts["images"] == sum(report.styles.values())
    assert set(counts["captions"]) == {"en", "zh"}
    assert "IconPark" in (tmp_path / "out" / "LICENSES.md").read_text()
    assert not drawings.kept_folder(Output(tmp_path / "out", 32)).exists()


def test_examples_say_what_they_show(tmp_path, folder):
    build_icons(Output(tmp_path / "out", 32), npm_dir=folder, workers=1)
    cats = [
        e for _, e in read(tmp_path / "out").values() if e.meta["concept"] == "1f408"
    ]
    icons = [e for e in cats if e.meta["style"] == "icon-filled"]
    for example in icons:
        color = example.meta["color"]
        pixels = decode_image(example.image).astype(int)
        middle = pixels[16, 10]
        assert np.abs(middle - PALETTE[color]).max() <= 3
        assert ("en", f"{color} cat, filled icon") in example.captions
        assert example.meta["license"] == "IconPark, ByteDance, Apache-2.0"
    assert {e.meta["style"] for e in cats} >= {"noto", "fxemoji", "icon-outline"}


def test_the_same_archives_give_the_same_set(tmp_path, folder):
    first = build_icons(Output(tmp_path / "a", 16), npm_dir=folder, workers=1)
    second = build_icons(Output(tmp_path / "b", 16), npm_dir=folder, workers=2)
    assert first.manifest.fingerprint == second.manifest.fingerprint
    info = first.manifest.info
    assert info["splits_digest"] == second.manifest.info["splits_digest"]


def test_a_stopped_build_goes_on(tmp_path, folder, monkeypatch):
    output = Output(tmp_path / "out", 16)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            build_icons(output, npm_dir=folder, workers=1)
    kept = list(drawings.kept_folder(output).iterdir())
    assert kept and not (tmp_path / "out").exists()
    before = kept[0].stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(drawings, "forget_rendered", lambda output: None)
        patch.setattr(dataset, "forget_rendered", lambda output: None)
        build_icons(output, npm_dir=folder, workers=1)
    assert kept[0].stat().st_mtime_ns == before
    # Cut short, it is rendered again.
    kept[0].write_bytes(kept[0].read_bytes()[:-20])
    build_icons(Output(tmp_path / "out", 16, overwrite=True), npm_dir=folder, workers=1)
    assert len(read(tmp_path / "out")) > 20


def test_a_source_without_images_is_named(tmp_path, folder):
    archives.pack(
        folder,
        sources._ARCHIVES["noto-v1"],
        {"chars.json": {}, "icons.json": {"icons": {}}},
    )
    with pytest.raises(UserError, match="style noto-v1 gave 0 images"):
        build_icons(Output(tmp_path / "out", 16), npm_dir=folder)
    assert not (tmp_path / "out").exists()


def test_a_missing_archive_is_named(tmp_path, folder):
    sources_path = folder / "icon-park-svg-1.4.2.tgz"
    sources_path.unlink()
    with pytest.raises(UserError, match=r"cannot read .*icon-park-svg-1\.4\.2\.tgz"):
        build_icons(Output(tmp_path / "out", 16), npm_dir=folder)


def test_no_share_alike_source_is_in_the_set_unasked():
    assert not set(dataset.SHARE_ALIKE) & set(dataset.EMOJI_STYLES)
    licenses = [dataset.EMOJI_LICENSES[s] for s in dataset.EMOJI_STYLES]
    assert not any("SA" in text or "GPL" in text for text in licenses)
    assert iconpark.PACKAGE.startswith("@icon-park/svg@")
