"""What ITCH 5.0 order messages do to books and records: dictionaries, no speed, no core."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydpdk._core import lib
from tests.itch50_spec import unpack

UNDEF = 2**63 - 1
NOTHING = 2**32 - 1
SIDES = {b"B": lib.SIDE_BID, b"S": lib.SIDE_ASK}
Record = tuple[int, ...]
PRICE_MAX = 214_748_3647 * 10**5


class Model:
    """``apply`` a message: its records as (kind, side, flags, instrument, price or bid,
    order_id or ask, size or bid size, aux or ask size)."""

    def __init__(self, gaps: int = 0) -> None:
        self.orders: dict[int, list[int]] = {}  # id: instrument, side, price, left
        self.tops: dict[int, tuple[int, int, int, int]] = {}
        self.broken: set[int] = set()
        self.counted: Counter[str] = Counter()
        self.gaps = gaps

    def apply(self, message: bytes) -> list[Record]:
        m: dict[str, Any] = unpack(message)
        letter = chr(m["type"])
        instrument = m["locate"]
        self.counted["messages_decoded"] += 1
        if instrument == 0:
            self.counted["book_instrument"] += 1
            flags = lib.FLAG_LAST | lib.FLAG_SUSPECT
            return [(lib.EVENT_INFO, 0, flags, 0, UNDEF, 0, NOTHING, ord(letter))]
        if letter in "AF":
            side = SIDES.get(m["side"], 0)
            self.add(instrument, side, m["order_reference"], m["price"], m["shares"])
            row = [
                lib.EVENT_ADD,
                side,
                0,
                instrument,
                m["price"],
                m["order_reference"],
                m["shares"],
            ]
            return self.told([[*row, 0]])
        if letter == "U":
            return self.replace(m)
        kind = {"E": lib.EVENT_EXECUTE, "C": lib.EVENT_EXECUTE, "X": lib.EVENT_CANCEL}
        row = self.take(kind.get(letter, lib.EVENT_DELETE), m)
        if letter in "EC":
            row[7] = m["match_number"] % 2**32
        if letter == "C":
            row[4] = m["price"]
            row[2] = lib.FLAG_HIDDEN if m["printable"] == b"N" else 0
        return self.told([row])

    def fail(self, instrument: int, reason: str) -> None:
        self.counted[reason] += 1
        if self.gaps == 0:
            self.broken.add(instrument)

    def add(self, instrument: int, side: int, order: int, price: int, shares: int) -> None:
        if side == 0:
            self.fail(instrument, "book_bad_side")
        elif not 0 < price <= PRICE_MAX:
            self.fail(instrument, "book_bad_price")
        elif shares == 0:
            self.fail(instrument, "book_bad_size")
        elif order in self.orders:
            self.fail(instrument, "book_duplicate_order")
        else:
            self.orders[order] = [instrument, side, price, shares]

    def take(self, kind: int, m: dict[str, Any]) -> list[int]:
        """The record of an execution, cancel or delete of an order."""
        order, shares, instrument = m["order_reference"], m.get("shares", NOTHING), m["locate"]
        row = [kind, 0, 0, instrument, UNDEF, order, shares, 0]
        if order not in self.orders:
            self.fail(instrument, "book_unknown_order")
            return row
        if shares == 0:
            self.fail(instrument, "book_bad_size")
            return row
        at, side, price, left = self.orders[order]
        if shares > left and kind != lib.EVENT_DELETE:
            self.fail(instrument, "book_over_reduce")
        if at != instrument:
            self.fail(instrument, "book_instrument")
            self.broken.add(at)
        self.orders[order][3] -= min(shares, left)
        if self.orders[order][3] == 0:
            del self.orders[order]
        return [kind, side, 0, at, price, order, min(shares, left), 0]

    def replace(self, m: dict[str, Any]) -> list[Record]:
        known = m["order_reference"] in self.orders
        old = self.take(lib.EVENT_DELETE, {**m, "shares": NOTHING})
        if known:
            self.add(old[3], old[1], m["new_order_reference"], m["price"], m["shares"])
        new = [lib.EVENT_ADD, old[1], lib.FLAG_REPLACE, old[3], m["price"]]
        old[2] = lib.FLAG_REPLACE
        return self.told([old, [*new, m["new_order_reference"], m["shares"], 0]])

    def top(self, instrument: int) -> tuple[int, int, int, int]:
        rows = [row for row in self.orders.values() if row[0] == instrument]
        bid = max((r[2] for r in rows if r[1] == lib.SIDE_BID), default=UNDEF)
        ask = min((r[2] for r in rows if r[1] == lib.SIDE_ASK), default=UNDEF)
        at = [sum(r[3] for r in rows if (r[1], r[2]) == key)
              for key in ((lib.SIDE_BID, bid), (lib.SIDE_ASK, ask))]  # fmt: skip
        return bid, ask, min(at[0], NOTHING), min(at[1], NOTHING)

    def told(self, rows: list[list[int]]) -> list[Record]:
        """With the flags of the book after the message, and its quote when it moved."""
        instrument = rows[-1][3]
        top = self.top(instrument)
        moved = top != self.tops.get(instrument, (UNDEF, UNDEF, 0, 0))
        crossed = lib.FLAG_CROSSED if UNDEF not in top[:2] and top[0] >= top[1] else 0
        if moved:
            self.tops[instrument] = top
            self.counted["book_crossed"] += crossed != 0
            rows.append([lib.EVENT_QUOTE, 0, 0, instrument, *top])
        suspect = instrument in self.broken or self.gaps
        for row in rows:
            row[2] |= lib.FLAG_SUSPECT if suspect else 0
        rows[-1][2] |= lib.FLAG_LAST | crossed
        if moved:
            rows[-2][2] |= crossed
            cut = NOTHING in top[2:]
            rows[-1][2] |= lib.FLAG_WIDE * cut
            self.counted["quote_size_cut"] += cut
        return [tuple(row) for row in rows]
