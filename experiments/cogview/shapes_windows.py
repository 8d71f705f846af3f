r"""CogView with a window and pivots on oblong scenes, beside attention to all codes.

    cogjax data shapes --out data/wide --n 80000 --easy --aspect 2:1
    cogjax data shapes --out data/several --n 80000 --easy --aspect 1:1,2:1,1:2
    cogjax train --config experiments/cogview/shapes_windows.py:wide \
        --workdir runs/windows
    cogjax train --config experiments/cogview/shapes_oblong.py:wide --workdir runs/all
    python experiments/cogview/shapes_oblong.py runs/windows runs/all

The same data, sizes and updates as `shapes_oblong.py`, whose judge compares both:
images of 6 x 12 codes, of which a query sees the last 9 to 16 and one in four of the
others. `:several` is of three shapes. `:wide,nano` ends in a minute. A full run is
about 80 minutes of 2 CPU cores.
"""

from pathlib import Path

import ml_collections

from cogjax.config import load

_OBLONG = str(Path(__file__).with_name("shapes_oblong.py"))
# 22 positions are text and commands; 18 of 72 codes are pivots.
WINDOW = {"window": 8, "window_times": 2, "num_pivots": 40}


def get_config(arg: str = "wide") -> ml_collections.ConfigDict:
    """`arg` is "wide" or "several", optionally followed by ",nano"."""
    if arg.removesuffix(",nano") not in ("wide", "several"):
        raise ValueError(
            f"the argument is {arg!r}, expected wide, several, optionally followed by "
            ",nano"
        )
    config = ml_collections.ConfigDict(load(f"{_OBLONG}:{arg}"))
    config.model.update(WINDOW)
    return config
