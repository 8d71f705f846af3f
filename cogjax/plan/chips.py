"""What accelerators can do, from their makers' data sheets, and TPU topologies."""

import math
import re
from dataclasses import dataclass

from cogjax.errors import UserError


@dataclass(frozen=True)
class Chip:
    """flops: bfloat16 products a second. hbm: bytes of memory, bandwidth: bytes a
    second of it. link: bytes a second that leave a chip along one axis of a torus,
    both ways together (Google's "How to scale your model", section 2); of NVLink in
    one direction for GPUs."""

    flops: float
    hbm: float
    bandwidth: float
    link: float
    is_tpu: bool = True


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1.23e12, 9e10),
    "v5e": Chip(197e12, 16 * 2**30, 0.82e12, 9e10),
    "v5p": Chip(459e12, 95 * 2**30, 2.77e12, 1.8e11),
    "v6e": Chip(918e12, 32 * 2**30, 1.64e12, 1.8e11),
    "a100": Chip(312e12, 80 * 2**30, 2.04e12, 3e11, is_tpu=False),
    "h100": Chip(989e12, 80 * 2**30, 3.35e12, 4.5e11, is_tpu=False),
    "h200": Chip(989e12, 141 * 10**9, 4.8e12, 4.5e11, is_tpu=False),
}


def parse_topology(topology: str) -> tuple[Chip, int]:
    """(chip, number of chips) of "v5p:4x4x8" or "h100:64"; UserError otherwise."""
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", topology)
    if not found or found[1] not in CHIPS:
        raise UserError(
            f"topology {topology!r} is unknown: expected CHIP:SIZES such as v5p:4x4x8, "
            f"v5e:4x4 or h100:64; chips are {', '.join(CHIPS)}"
        )
    count = math.prod(int(size) for size in found[2].split("x"))
    if count < 1:
        raise UserError(f"topology {topology!r} has no chips")
    return CHIPS[found[1]], count
