"""A family from outside the package: colours by their names, an image a colour.

Installed as a distribution of its own by `tests/test_outside_family.py`, whose entry
point names FAMILY. Importing this module imports nothing heavy.
"""

from cogjax.catalogue import Family, Network

FAMILY = Family(
    "toy",
    "Colours of words",
    layout="toy_parts:Layout",
    pipeline="toy_parts:Painter",
    networks={
        "palette": Network(
            "toy_parts:PaletteConfig", "toy_parts:Palette", "toy_parts:param_shapes"
        )
    },
    stages={"toy": "toy_parts:STAGE"},
)
