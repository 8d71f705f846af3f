"""Colours that captions name, and the words for them."""

# sRGB. Far enough apart that a judge can tell which one was drawn.
PALETTE = {
    "red": (224, 32, 32),
    "orange": (245, 138, 7),
    "yellow": (245, 196, 0),
    "green": (46, 158, 63),
    "cyan": (18, 181, 176),
    "blue": (32, 96, 224),
    "purple": (128, 50, 200),
    "pink": (240, 106, 168),
    "brown": (138, 90, 43),
    "gray": (138, 138, 138),
    "black": (34, 34, 34),
}
CHINESE = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "cyan": "青色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "gray": "灰色",
    "black": "黑色",
}


def hex_color(name: str) -> str:
    """ "#e02020" for "red"."""
    return "#" + "".join(f"{value:02x}" for value in PALETTE[name])


def tint(name: str, share: float = 0.6) -> str:
    """The colour mixed with a share of white, as "#rrggbb"."""
    mixed = (round(v + share * (255 - v)) for v in PALETTE[name])
    return "#" + "".join(f"{value:02x}" for value in mixed)
