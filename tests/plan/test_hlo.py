"""Counting what a program moves, on text written by hand and on compiled programs."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.plan.hlo import traffic

TEXT = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%slice_one (all: bf16[48,1024,8], i: s32[]) -> bf16[1,1024,8] {
  %all = bf16[48,1024,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %one = bf16[1,1024,8]{2,1,0} dynamic-slice(%all, %i), dynamic_slice_sizes={1}
}

%gather_inside (x: bf16[256]) -> bf16[1024] {
  %x = bf16[256]{0} parameter(0)
  ROOT %g = bf16[1024]{0} all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}
}

%body (p: (s32[], bf16[48,1024,8], bf16[256])) -> (s32[], bf16[48,1024,8], bf16[256]) {
  %p = (s32[], bf16[48,1024,8]{2,1,0}, bf16[256]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %all = bf16[48,1024,8]{2,1,0} get-tuple-element(%p), index=1
  %x = bf16[256]{0} get-tuple-element(%p), index=2
  %one = bf16[1,1024,8]{2,1,0} fusion(%all, %i), kind=kLoop, calls=%slice_one
  %fast = bf16[1,1024,8]{2,1,0:T(8,128)(2,1)S(1)} negate(%one)
  %g = bf16[1024]{0} fusion(%x), kind=kCustom, calls=%gather_inside
  ROOT %t = (s32[], bf16[48,1024,8]{2,1,0}, bf16[256]{0}) tuple(%i, %all, %x)
}

%condition (p: (s32[], bf16[48,1024,8], bf16[256])) -> pred[] {
  %p = (s32[], bf16[48,1024,8]{2,1,0}, bf16[256]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[]{:T(128)} constant(48)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (all: bf16[48,1024,8], x: bf16[256], y: f32[100]) -> f32[100] {
  %all = bf16[48,1024,8]{2,1,0} parameter(0)
  %x = bf16[256]{0} parameter(1)
  %y = f32[100]{0} parameter(2)
  %zero = s32[] constant(0)
  %p = (s32[], bf16[48,1024,8]{2,1,0}, bf16[256]{0}) tuple(%zero, %all, %x)
  %loop = (s32[], bf16[48,1024,8]{2,1,0}, bf16[256]{0}) while(%p), condition=%condition, body=%body
  ROOT %r = f32[100]{0} all-reduce(%y), replica_groups={{0,1},{2,3}}, to_apply=%sum
}
"""  # noqa: E501


def test_loops_slices_fast_memory_and_groups():
    found = traffic(TEXT)
    assert found.calls == {"all-gather": 48, "all-reduce": 1}
    # Three quarters of what is gathered come from others; a sum goes round twice.
    assert found.network == {"all-gather": 48 * 2048 * 3 / 4, "all-reduce": 2 * 400 / 2}
    # A trip: the slice is read and written (4 bytes of index beside it), read again
    # into fast memory, and 256 numbers are gathered to 1024.
    trip = 2 * 16384 + 4 + 16384 + (256 + 1024) * 2
    assert found.memory == 48 * trip + 2 * 400


PADDED = """HloModule jit_draw, is_scheduled=true

%look_up (table: bf16[1000,256], ids: s32[4]) -> bf16[4,256] {
  %table = bf16[1000,256]{1,0:T(8,128)(2,1)} parameter(0)
  %ids = s32[4]{0:T(128)S(1)} parameter(1)
  ROOT %rows = bf16[4,256]{1,0:T(4,128)(2,1)S(1)} gather(%table, %ids), offset_dims={1}
}

%body (p: (s32[], bf16[16,5,64], s32[4], bf16[1000,256])) -> (s32[]) {
  %p = (s32[], bf16[16,5,64]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %cache = bf16[16,5,64]{2,1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %ids = s32[4]{0:T(128)S(1)} get-tuple-element(%p), index=2
  %table = bf16[1000,256]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=3
  %sum = bf16[16]{0:T(128)S(1)} negate(%cache)
  %part = ((bf16[1000,256]{1,0:T(8,128)(2,1)}), bf16[8,256]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%table), slice={[0:8], [0:256]}
  %got = bf16[8,256]{1,0:T(8,128)(2,1)S(1)} slice-done(%part)
  %rows = bf16[4,256]{1,0:T(4,128)(2,1)S(1)} fusion(%table, %ids), kind=kCustom, calls=%look_up
  ROOT %t = (s32[], bf16[16,5,64]{2,1,0:T(8,128)(2,1)}) tuple(%ids, %cache)
}

%condition (p: (s32[], bf16[16,5,64])) -> pred[] {
  %p = (s32[], bf16[16,5,64]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %i), direction=LT
}

ENTRY %main (p: (s32[], bf16[16,5,64])) -> (s32[], bf16[16,5,64]) {
  %p = (s32[], bf16[16,5,64]{2,1,0:T(8,128)(2,1)}) parameter(0)
  ROOT %loop = (s32[], bf16[16,5,64]) while(%p), condition=%condition, body=%body
}
"""  # noqa: E501


def test_tiles_slices_that_start_rows_of_a_table_and_unknown_trips():
    # 5 of 8 sublanes and 64 of 128 lanes are used, and all are read; of the table only
    # 8 rows on their way into fast memory, and the 4 that are looked up.
    trip = 16 * 8 * 128 * 2 + 8 * 256 * 2 + 4 * 256 * 2
    assert traffic(PADDED).memory == trip
    assert traffic(PADDED, unknown=10).memory == 10 * trip


@pytest.mark.parametrize("length", [3, 7])
def test_a_compiled_scan_counts_every_trip(length):
    mesh = make_mesh(MeshConfig(data=1, fsdp=8))

    def step(x, w):
        # Rows of w are split: each device has a part of the sum.
        return jax.lax.with_sharding_constraint(jnp.tanh(x @ w), PartitionSpec()), None

    rows = jax.NamedSharding(mesh, PartitionSpec(None, "fsdp", None))
    whole = jax.NamedSharding(mesh, PartitionSpec())
    run = jax.jit(
        lambda x, ws: jax.lax.scan(step, x, ws)[0],
        in_shardings=(whole, rows),
        out_shardings=whole,
    )
    shapes = (
        jax.ShapeDtypeStruct((4, 64), jnp.float32),
        jax.ShapeDtypeStruct((length, 64, 64), jnp.float32),
    )
    with jax.set_mesh(mesh):
        text = run.lower(*shapes).compile().as_text()
    found = traffic(text)
    assert found.calls["all-reduce"] == length
    assert found.network["all-reduce"] == length * 2 * (4 * 64 * 4) * 7 / 8
    # At least each device's part of every matrix, once; not the stack in every trip.
    assert length * 8 * 64 * 4 < found.memory < length * length * 8 * 64 * 4 + 2**18


@pytest.mark.parametrize(
    ("groups", "ways"),
    [
        ("{{0,2},{1,3}}", 2),
        ("[2,4]<=[8]", 4),
        ("[2,4]<=[4,2]T(1,0)", 4),
        ("mesh['a'=2,'b'=4] {'b'}", 4),
        ("mesh['a'=1,'b'=32,'c'=4], device_ids=([4,32]T(1,0)) {'b'}", 32),
        ("mesh['a'=2,'b'=4] {'a','b'}", 8),
    ],
)
def test_spellings_of_groups(groups, ways):
    text = TEXT.replace("replica_groups={{0,1},{2,3}}", f"replica_groups={groups}")
    found = traffic(text).network["all-reduce"]
    assert found == pytest.approx(2 * 400 * (ways - 1) / ways)
