"""The ITCH 5.0 messages that are no orders: directory, halts, crosses, imbalances, notices.

Every method takes (book, time, 30 random bits), as the handlers of OrderFlow do, and returns one
message. Prices hang on the book's fair price; a pause stops executions until it is lifted.
"""

from __future__ import annotations

from pydpdk.synth.orderflow import SHARES, TICK, Book, OrderFlow
from pydpdk.synth.pack import itch50


class AdminFlow:
    def __init__(self, flow: OrderFlow) -> None:
        self.flow = flow
        self.paused: Book | None = None
        self._event = itch50("S", "system_event")
        self._directory = itch50("R", "stock_directory")
        self._action = itch50("H", "stock_trading_action")
        self._sho = itch50("Y", "reg_sho_restriction")
        self._participant = itch50("L", "market_participant_position")
        self._decline = itch50("V", "mwcb_decline_level")
        self._breach = itch50("W", "mwcb_status")
        self._ipo = itch50("K", "ipo_quoting_period_update")
        self._collar = itch50("J", "luld_auction_collar")
        self._halt = itch50("h", "operational_halt")
        self._cross = itch50("Q", "cross_trade")
        self._broken = itch50("B", "broken_trade")
        self._imbalance = itch50("I", "noii")
        self._interest = itch50("N", "rpii")
        self._listing = itch50("O", "direct_listing_with_capital_raise")

    def event(self, code: bytes, ts: int) -> bytes:
        return self._event(0, ts, code)

    def directory(self, book: Book, ts: int, r: int) -> bytes:
        category = b"QGSNAPZ"[r % 7 : r % 7 + 1]
        tier = b"12"[r & 1 : (r & 1) + 1]
        return self._directory(
            book.locate, ts, book.stock, category, b"N", 100, b"N", b"C", b"Z ", b"P",
            b"N", b"N", tier, b"N", 0, b"N",
        )  # fmt: skip

    def tradable(self, book: Book, ts: int, r: int) -> bytes:
        return self._action(book.locate, ts, book.stock, b"T", b" ", b"    ")

    def action(self, book: Book, ts: int, r: int) -> bytes:
        """Pause this instrument, or lift the pause that is on: one at a time."""
        if self.paused:
            book, self.paused = self.paused, None
            book.halted = False
            return self.tradable(book, ts, r)
        self.paused = book
        book.halted = True
        return self._action(book.locate, ts, book.stock, b"P", b" ", b"LUDP")

    def short_sale(self, book: Book, ts: int, r: int) -> bytes:
        return self._sho(book.locate, ts, book.stock, b"012"[r % 3 : r % 3 + 1])

    def participant(self, book: Book, ts: int, r: int) -> bytes:
        names = self.flow.attributions
        who, primary = names[r % len(names)], b"YN"[r & 1 : (r & 1) + 1]
        return self._participant(book.locate, ts, who, book.stock, primary, b"N", b"A")

    def decline(self, book: Book, ts: int, r: int) -> bytes:
        """Levels 7, 13 and 20 per cent below an index of 5,000 (8 decimals)."""
        index = 5000 * 10**6
        return self._decline(0, ts, index * 93, index * 87, index * 80)

    def breach(self, book: Book, ts: int, r: int) -> bytes:
        """The status of the first level, here without the halt that would follow it."""
        return self._breach(0, ts, b"1")

    def ipo(self, book: Book, ts: int, r: int) -> bytes:
        release_s = ts // 10**9 + 600
        return self._ipo(book.locate, ts, book.stock, release_s, b"A", book.mid)

    def collar(self, book: Book, ts: int, r: int) -> bytes:
        width = book.mid // 2000 * TICK
        mid, low, high = book.mid, book.mid - width, book.mid + width
        return self._collar(book.locate, ts, book.stock, mid, high, low, r & 3)

    def halt(self, book: Book, ts: int, r: int) -> bytes:
        """The halt of another market that trades the instrument: this one goes on."""
        return self._halt(book.locate, ts, book.stock, b"B", b"HT"[r & 1 : (r & 1) + 1])

    def cross(self, book: Book, ts: int, r: int, kind: bytes = b"H") -> bytes:
        self.flow.match += 1
        shares = SHARES[r & 255] * 50
        return self._cross(book.locate, ts, shares, book.stock, book.mid, self.flow.match, kind)

    def broken(self, book: Book, ts: int, r: int) -> bytes:
        """Break one of the last matches of the market."""
        return self._broken(book.locate, ts, max(self.flow.match - (r & 15), 1))

    def imbalance(self, book: Book, ts: int, r: int, kind: bytes = b"H") -> bytes:
        side = r % 3
        shares = 0 if b"BSN"[side] == ord("N") else SHARES[r >> 3 & 255]
        price = book.mid
        return self._imbalance(
            book.locate, ts, SHARES[r >> 11 & 255] * 20, shares, b"BSN"[side : side + 1],
            book.stock, price + TICK, price - TICK, price, kind, b"1",
        )  # fmt: skip

    def interest(self, book: Book, ts: int, r: int) -> bytes:
        return self._interest(book.locate, ts, book.stock, b"BSAN"[r & 3 : (r & 3) + 1])

    def listing(self, book: Book, ts: int, r: int) -> bytes:
        mid, width = book.mid, book.mid // 10
        return self._listing(
            book.locate, ts, book.stock, b"Y", mid - 2 * width, mid + 2 * width, mid, ts,
            mid - width, mid + width,
        )  # fmt: skip
