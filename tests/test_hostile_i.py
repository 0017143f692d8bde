"""HOSTILE I, 20-32: IP headers, fragments and addresses, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydpdk._core")
from testbed.hostile import Vector
from tests.hostile_run import cases, run


@cases("i00")
def test_i00_other_protocols(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i20")
def test_i20_version(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i21")
def test_i21_header_length(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i22")
def test_i22_total_length(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i23")
def test_i23_header_checksum(vector: Vector, tmp_path: Path) -> None:
    """Accepted and noted, dropped by policy `verify`, not looked at by `ignore`."""
    run(vector, tmp_path)


@cases("i24")
def test_i24_options(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i25")
def test_i25_ttl_0(vector: Vector, tmp_path: Path) -> None:
    """Accepted: time to live is for routers."""
    run(vector, tmp_path)


@cases("i26")
def test_i26_fragments(vector: Vector, tmp_path: Path) -> None:
    """Fragments are not put together: each is counted, and none is a datagram."""
    run(vector, tmp_path)


@cases("i27")
def test_i27_overlapping_fragments(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i28")
def test_i28_teardrop_ping_of_death_tiny(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i29")
def test_i29_fragment_id_of_another_flow(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i30")
def test_i30_fragment_flood(vector: Vector, tmp_path: Path) -> None:
    """There is no table to fill."""
    run(vector, tmp_path)


@cases("i31")
def test_i31_ipv6(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)


@cases("i32")
def test_i32_wrong_destination_or_source(vector: Vector, tmp_path: Path) -> None:
    run(vector, tmp_path)
