"""HOSTILE L, 1-19: capture files and the link layer, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("pydpdk._core")
from pydpdk.cli import cli
from pydpdk.errors import DataError, Exit
from pydpdk.source.source import open_source
from testbed.hostile import Vector
from testbed.hostile.vector import LAST, START_NS, pcap_record
from tests.hostile_run import all_vectors, cases, outcome, run, write


@cases("l01")
def test_l01_capture_cut_inside_a_record(vector: Vector, tmp_path: Path) -> None:
    """Whole records are delivered; `truncated` is set, and the command line exits with 4."""
    assert run(vector, tmp_path).truncated == 1
    path = str(write(vector, tmp_path))
    done = CliRunner().invoke(cli, ["replay", path, "--feed", "itch50"])
    assert done.exit_code == Exit.DATA
    assert path in done.output
    assert "offset" in done.output


@cases("l02")
def test_l02_capture_cut_inside_a_record_header(vector: Vector, tmp_path: Path) -> None:
    assert run(vector, tmp_path).truncated == 1


@cases("l03")
def test_l03_empty_capture(vector: Vector, tmp_path: Path) -> None:
    """A header alone is an empty capture; less is refused with the name of the file."""
    if not vector.refused:
        run(vector, tmp_path)
        return
    with pytest.raises(DataError, match=vector.error) as refused:
        outcome(vector, tmp_path)
    assert vector.id in str(refused.value)


@cases("l04")
def test_l04_magic_byte_order_and_precision(vector: Vector, tmp_path: Path) -> None:
    if vector.refused:
        with pytest.raises(DataError, match=vector.error):
            outcome(vector, tmp_path)
        return
    got = run(vector, tmp_path)
    assert got.events["ts_recv"][[0, -1]].tolist() == [START_NS + 100_000, START_NS + 200_000]


@cases("l05")
def test_l05_captured_length_beyond_the_limit(vector: Vector, tmp_path: Path) -> None:
    """The run stops there with the offset: what looks like frames behind it is never read."""
    assert run(vector, tmp_path).truncated == 0


@cases("l06")
def test_l06_frame_cut_by_the_capture(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("l07")
def test_l07_record_of_no_bytes(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("l08")
def test_l08_link_types(vector: Vector, tmp_path: Path) -> None:
    """Parsed by type or dropped as unknown, never read as Ethernet; DPDK's net_pcap is refused."""
    run(vector, tmp_path)
    with pytest.raises(DataError, match="link type"):
        open_source(f"net_pcap:{write(vector, tmp_path)}")


@cases("l09")
def test_l09_pcapng(vector: Vector, tmp_path: Path) -> None:
    got = run(vector, tmp_path)
    assert abs(int(got.events["ts_recv"][0]) - START_NS) <= 10**9 // 2**20


@cases("l10")
def test_l10_time_stamps(vector: Vector, tmp_path: Path) -> None:
    """The order of the file is kept, and one stamp in the future ends no gap."""
    events = run(vector, tmp_path).events
    assert events["sequence"].tolist() == sorted(events["sequence"].tolist())


def test_l11_file_removed_or_growing_while_read(tmp_path: Path) -> None:
    """A capture is what the file held when it was opened."""
    vector = next(v for v in all_vectors() if v.id == "l10_equal_times")
    run(vector, tmp_path, opened=Path.unlink)

    def grow(path: Path) -> None:
        with path.open("ab") as file:
            file.write(pcap_record(START_NS, LAST))

    run(vector, tmp_path, opened=grow)


@cases("l12")
def test_l12_runts_and_padding(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("l13")
def test_l13_jumbo_frames(vector: Vector, tmp_path: Path) -> None:
    """Of several segments behind a driver: see test_hostile_driver.py."""
    run(vector, tmp_path)


@cases("l14")
def test_l14_vlan_tags(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("l15")
def test_l15_other_ethertypes(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("l16")
def test_l16_tunnels(vector: Vector, tmp_path: Path) -> None:
    """None is stripped: all are counted."""
    run(vector, tmp_path)


@cases("l17")
def test_l17_wrong_mac_and_own_echo(vector: Vector, tmp_path: Path) -> None:
    """MAC addresses are the switch's business: what IP says decides, and an echo is a copy."""
    run(vector, tmp_path)


@cases("l18")
def test_l18_frames_twice_from_a_mirror_port(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("l19")
def test_l19_frame_check_sequence_as_trailer(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)
