"""The table beside other libraries: its rows, its figures and what it prints."""

import pytest

from cogjax.bench import SIZES
from tests.scripts import EXPERIMENTS, load_script

PEERS = EXPERIMENTS / "bench/peers"


@pytest.fixture(scope="module")
def rows():
    return load_script("bench/peers/rows.py")


@pytest.fixture(scope="module")
def table():
    return load_script("bench/peers/table.py")


def run(seconds, cpu=1.0, foreign=0.0, gflops=100.0):
    return {"seconds": seconds, "cpu": cpu, "foreign": foreign, "gflops": gflops}


def program(table, label, runs, **more):
    found = {"label": label, "count": 8, "parameters": 1234, "runs": runs} | more
    return found | table.summary(runs, found["count"])


def test_every_program_of_a_row_is_a_function_beside_it(rows):
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)
    for row in rows.ROWS:
        assert row.note and row.ours.is_ours
        assert row.peers and not any(peer.is_ours for peer in row.peers)
        for one in row.programs:
            module, name = one.maker.split(":")
            text = (PEERS / f"{module}.py").read_text("utf-8")
            assert f"\ndef {name}(" in text


@pytest.mark.parametrize(("nano", "name"), [(False, "reference"), (True, "nano")])
def test_transformers_of_peers_have_the_sizes_of_ours(rows, nano, name):
    ours = SIZES[name]
    same = ours.width, ours.depth, ours.heads, ours.num_text, ours.grid
    assert rows.SIZES[nano] == (*same, ours.num_codes)
    assert ours.num_pieces == ours.num_codes
    assert rows.SIZES[nano].length == ours.network("causal").max_positions


def test_summary_is_of_medians_and_keeps_the_spread(table):
    found = table.summary([run(1.0, 2.0), run(4.0, 8.0), run(2.0, 4.0)], 8)
    assert (found["least"], found["rate"], found["greatest"]) == (2.0, 4.0, 8.0)
    assert found["rate_of_processor_time"] == 2.0


@pytest.mark.parametrize(
    ("busy", "own", "seconds", "share"),
    [(4.0, 3.0, 2.0, 0.25), (1.0, 3.0, 2.0, 0.0), (9.0, 1.0, 2.0, 1.0), (1, 1, 0, 0)],
)
def test_share_that_others_used(table, busy, own, seconds, share):
    assert table.foreign_share(busy, own, seconds, 2) == share


def test_ratio_is_to_the_fastest_peer_and_by_turns(table):
    ours = program(table, "ours", [run(1.0, 1.0), run(2.0, 1.0)])
    slow = program(table, "slow", [run(9.0), run(9.0)])
    fast = program(table, "fast", [run(3.0, 4.0), run(4.0, 4.0)])
    found = table.compared([ours, slow, fast])
    assert found["peer"] == "fast"
    assert found["in_turn"] == [2.0, 3.0]
    assert found["ratio"] == pytest.approx(6.0 / (7 / 3))
    assert found["ratio_of_processor_time"] == 4.0


def test_table_has_a_cell_for_every_heading_and_names_failures(table):
    programs = [
        program(table, "ours", [run(1.0)], gflop=50.0),
        program(table, "peer", [run(2.0)]),
    ]
    good = {"unit": "tokens", "note": "Equal.", "programs": programs}
    bad = {"unit": "images", "note": "Other.", "error": "no torch"}
    settings = {"runs": 1, "threads": 2, "hugepages": "", "nano": True}
    rows = {"good": good | table.compared(programs), "bad": bad}
    report = {"settings": settings, "versions": {"torch": "1"}, "rows": rows}
    text = table.markdown(report)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert "| good | ours | 8 tokens/s, 50% of matmul |" in text
    assert "| 2.00, 1.00 |" in text and "| bad | failed: no torch |" in text
    assert "say nothing" in text and "- good: Equal." in text
