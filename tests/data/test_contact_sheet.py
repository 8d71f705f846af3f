import numpy as np
import pytest
from PIL import Image

from cogjax.data import contact_sheet
from cogjax.data.contact_sheet import grid, show
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example
from cogjax.errors import UserError


def colours(count, size=4):
    return np.stack([np.full((size, size, 3), 20 * i, np.uint8) for i in range(count)])


def test_a_grid_is_filled_row_by_row():
    pixels = np.asarray(grid(colours(5), columns=3, gap=1))
    assert pixels.shape == (2 * 5 - 1, 3 * 5 - 1, 3)
    assert [pixels[y, x, 0] for y in (1, 6) for x in (1, 6, 11)][:5] == [
        20 * i for i in range(5)
    ]
    assert (pixels[:, 4] == 255).all() and (pixels[5:, 10:] == 255).all()


def test_fewer_pictures_than_columns():
    assert grid(colours(2), columns=9, gap=0).size == (8, 4)


def test_captions_stand_below_their_pictures():
    plain = np.asarray(grid(colours(2, 40), 1, ["", ""]))
    drawn = np.asarray(grid(colours(2, 40), 1, ["a cat that is very long", ""]))
    rows = np.flatnonzero((plain != drawn).any((1, 2)))
    assert rows.size and 40 <= rows.min() and rows.max() < 70
    with pytest.raises(ValueError):
        grid(colours(2), 1, ["one"])


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "set"
    with DatasetBuilder(out, "emoji", 64, {"train": 1, "val": 1}) as builder:
        for i, picture in enumerate(colours(6, 64)):
            texts = (("en", f"cat {i}"), ("zh", "猫"))
            meta = {"style": "noto" if i else "twemoji"}
            builder.write("train", Example(f"e{i}", encode_png(picture), texts, meta))
        builder.finish({})
    return out


@pytest.mark.parametrize("n", [1, 4, 100])
def test_show_saves_a_grid_and_prints_counts(folder, tmp_path, capsys, n):
    path = show(folder, n=n, out=tmp_path / "new" / "grid.png")
    with Image.open(path) as picture:
        assert picture.width >= 64
    printed = capsys.readouterr().out
    assert "train    6" in printed
    assert "style: noto 5, twemoji 1" in printed
    assert "captions: en 6, zh 6" in printed
    assert "e0: cat 0 | 猫" in printed
    assert f"{min(n, 6)} images of train" in printed


def test_a_broken_font_is_not_needed(folder, tmp_path, monkeypatch):
    (tmp_path / "font.ttc").write_bytes(b"no font")
    monkeypatch.setattr(contact_sheet, "_FONTS", (str(tmp_path / "font.ttc"),))
    with Image.open(show(folder, out=tmp_path / "grid.png")) as sheet:
        assert sheet.width >= 64


def test_nothing_to_show(folder, tmp_path):
    with pytest.raises(UserError, match="split 'val' of .* is empty"):
        show(folder, split="val", out=tmp_path / "grid.png")
    with pytest.raises(UserError, match="no split 'test'"):
        show(folder, split="test", out=tmp_path / "grid.png")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
