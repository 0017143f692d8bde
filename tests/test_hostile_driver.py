"""The hostile vectors behind DPDK drivers: the same counters, but where a driver is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pydpdk._core")
from pydpdk.source import eal
from testbed.hostile import Vector
from testbed.hostile.vector import ETHERNET
from tests.hostile_run import all_vectors
from tests.port_child import run_child

pytestmark = pytest.mark.skipif(not eal.version(), reason="pydpdk was built without DPDK")


def expected(vector: Vector) -> dict[str, int]:
    return {name: n for name, n in (vector.counters | vector.driver).items() if n}


@pytest.mark.slow
def test_net_pcap_moves_the_same_counters(tmp_path: Path) -> None:
    """All vectors that are records of Ethernet frames, one port after the other."""
    there = [v for v in all_vectors() if v.file is None and v.link == ETHERNET]
    assert len(there) > 250
    got = run_child(
        """
        from pathlib import Path
        from tests.hostile_run import all_vectors, outcome
        wanted, out = set(json.loads(Path(sys.argv[2]).read_text())), {}
        for vector in all_vectors():
            if vector.id in wanted:
                got = outcome(vector, Path(sys.argv[1]), "net_pcap")
                out[vector.id] = [got.counters, got.unexplained, sorted(got.suspect)]
        say(out)
        """,
        tmp_path,
        _listed(tmp_path, there),
    )
    want = {v.id: [expected(v), 0, sorted(v.suspect)] for v in there}
    assert got == want
    assert all(v.driver_why for v in there if v.driver)


def _listed(folder: Path, some: list[Vector]) -> Path:
    path = folder / "wanted.json"
    path.write_text(json.dumps([vector.id for vector in some]))
    return path


OVER_A_WIRE = (
    "l13_jumbo", "l14_tag_one", "l14_tag_qinq_88a8", "l14_three_tags", "l15_arp", "l16_mpls",
    "i24_router_alert", "i26_first_middle_last", "u34_checksum_verify", "u36_and_line_b_is_whole",
    "u47_zero", "a59_other_bytes_on_b", "b119_price_max",
)  # fmt: skip

# net_af_packet asks for PACKET_FANOUT_FLAG_DEFRAG: the kernel puts fragments together, and what
# they hid comes in as one frame of two messages.
REASSEMBLED = {
    "frames_received": 3, "frames_parsed": 3, "messages_received": 5, "messages_delivered": 4,
    "messages_duplicate": 1, "messages_decoded": 3, "message_unknown": 1,
    "messages_expected": 4,
}  # fmt: skip


@pytest.mark.slow
def test_af_packet_moves_the_same_counters(tmp_path: Path) -> None:
    """Some of the vectors sent over a veth; their clock is the host's, so none depends on time."""
    some = [v for v in all_vectors() if v.id in OVER_A_WIRE]
    assert len(some) == len(OVER_A_WIRE)
    got = run_child(
        """
        from pathlib import Path
        from pydpdk.engine.engine import Engine
        from pydpdk.core.counters import nonzero
        from tests.hostile_run import all_vectors, feed_of
        ip("link set a0 mtu 9200")
        ip("link set b0 mtu 9200")
        wanted, out = set(json.loads(Path(sys.argv[1]).read_text())), {}
        for vector in all_vectors():
            if vector.id not in wanted:
                continue
            together = vector.id == "i26_first_middle_last"
            frames = int(sys.argv[2]) if together else len(vector.frames)
            source = open_source("af_packet:b0")
            with (
                Engine([source], [feed_of(vector)], checksum=vector.checksum, ring=False) as engine,
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire,
            ):
                wire.bind(("a0", 0))
                for frame in vector.frames:
                    wire.send(frame.data)
                until = time.monotonic() + 5
                while engine.counters()["frames_received"] < frames:
                    engine.step()
                    assert time.monotonic() < until, (vector.id, nonzero(engine.counters()))
                out[vector.id] = nonzero(engine.counters())
        say(out)
        """,
        _listed(tmp_path, some),
        REASSEMBLED["frames_received"],
        namespace=True,
    )
    assert got.pop("i26_first_middle_last") == REASSEMBLED
    no_ring = {"events_written"}
    for vector in some:
        if vector.id in got:
            want = {name: n for name, n in vector.counters.items() if name not in no_ring}
            assert got[vector.id] == want, vector.id
