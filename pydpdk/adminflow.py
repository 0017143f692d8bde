"""The ITCH 5.0 messages that are no orders: directory, halts, crosses, imbalances, notices.

Every method takes (book, time, 30 random bits), as the handlers of OrderFlow do, and returns one
message. Prices hang on the book's fair price; a pause stops executions until it is lifted.
"""

from __future__ import annotations

from pydpdk.itch50_pack import pack
from pydpdk.orderflow import SHARES, TICK, Book, OrderFlow


class AdminFlow:
    def __init__(self, flow: OrderFlow) -> None:
        self.flow = flow
        self.paused: Book | None = None
        self._event = pack("system_event")
        self._directory = pack("stock_directory")
        self._action = pack("stock_trading_action")
        self._sho = pack("reg_sho_restriction")
        self._participant = pack("market_participant_position")
        self._decline = pack("mwcb_decline_level")
        self._breach = pack("mwcb_status")
        self._ipo = pack("ipo_quoting_period_update")
        self._collar = pack("luld_auction_collar")
        self._halt = pack("operational_halt")
        self._cross = pack("cross_trade")
        self._broken = pack("broken_trade")
        self._imbalance = pack("noii")
        self._interest = pack("rpii")
        self._listing = pack("direct_listing_with_capital_raise")

    def event(self, code: bytes, ts: int) -> bytes:
        return self._event(b"S", 0, ts, code)

    def directory(self, book: Book, ts: int, r: int) -> bytes:
        category = b"QGSNAPZ"[r % 7 : r % 7 + 1]
        tier = b"12"[r & 1 : (r & 1) + 1]
        return self._directory(
            b"R", book.locate, ts, book.stock, category, b"N", 100, b"N", b"C", b"Z ", b"P",
            b"N", b"N", tier, b"N", 0, b"N",
        )  # fmt: skip

    def tradable(self, book: Book, ts: int, r: int) -> bytes:
        return self._action(b"H", book.locate, ts, book.stock, b"T", b" ", b"    ")

    def action(self, book: Book, ts: int, r: int) -> bytes:
        """Pause this instrument, or lift the pause that is on: one at a time."""
        if self.paused:
            book, self.paused = self.paused, None
            book.halted = False
            return self.tradable(book, ts, r)
        self.paused = book
        book.halted = True
        return self._action(b"H", book.locate, ts, book.stock, b"P", b" ", b"LUDP")

    def short_sale(self, book: Book, ts: int, r: int) -> bytes:
        return self._sho(b"Y", book.locate, ts, book.stock, b"012"[r % 3 : r % 3 + 1])

    def participant(self, book: Book, ts: int, r: int) -> bytes:
        names = self.flow.attributions
        who, primary = names[r % len(names)], b"YN"[r & 1 : (r & 1) + 1]
        return self._participant(b"L", book.locate, ts, who, book.stock, primary, b"N", b"A")

    def decline(self, book: Book, ts: int, r: int) -> bytes:
        """Levels 7, 13 and 20 per cent below an index of 5,000 (8 decimals)."""
        index = 5000 * 10**6
        return self._decline(b"V", 0, ts, index * 93, index * 87, index * 80)

    def breach(self, book: Book, ts: int, r: int) -> bytes:
        """The status of the first level, here without the halt that would follow it."""
        return self._breach(b"W", 0, ts, b"1")

    def ipo(self, book: Book, ts: int, r: int) -> bytes:
        release_s = ts // 10**9 + 600
        return self._ipo(b"K", book.locate, ts, book.stock, release_s, b"A", book.mid)

    def collar(self, book: Book, ts: int, r: int) -> bytes:
        width = book.mid // 2000 * TICK
        mid, low, high = book.mid, book.mid - width, book.mid + width
        return self._collar(b"J", book.locate, ts, book.stock, mid, high, low, r & 3)

    def halt(self, book: Book, ts: int, r: int) -> bytes:
        """Of another market that trades the instrument: this one goes on."""
        return self._halt(b"h", book.locate, ts, book.stock, b"B", b"HT"[r & 1 : (r & 1) + 1])

    def cross(self, book: Book, ts: int, r: int, kind: bytes = b"H") -> bytes:
        self.flow.match += 1
        shares = SHARES[r & 255] * 50
        return self._cross(
            b"Q", book.locate, ts, shares, book.stock, book.mid, self.flow.match, kind
        )

    def broken(self, book: Book, ts: int, r: int) -> bytes:
        """One of the last matches of the market."""
        return self._broken(b"B", book.locate, ts, max(self.flow.match - (r & 15), 1))

    def imbalance(self, book: Book, ts: int, r: int, kind: bytes = b"H") -> bytes:
        side = r % 3
        shares = 0 if b"BSN"[side] == ord("N") else SHARES[r >> 3 & 255]
        price = book.mid
        return self._imbalance(
            b"I", book.locate, ts, SHARES[r >> 11 & 255] * 20, shares, b"BSN"[side : side + 1],
            book.stock, price + TICK, price - TICK, price, kind, b"1",
        )  # fmt: skip

    def interest(self, book: Book, ts: int, r: int) -> bytes:
        return self._interest(b"N", book.locate, ts, book.stock, b"BSAN"[r & 3 : (r & 3) + 1])

    def listing(self, book: Book, ts: int, r: int) -> bytes:
        mid, width = book.mid, book.mid // 10
        return self._listing(
            b"O", book.locate, ts, book.stock, b"Y", mid - 2 * width, mid + 2 * width, mid, ts,
            mid - width, mid + width,
        )  # fmt: skip
