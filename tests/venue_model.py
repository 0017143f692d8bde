"""The simulated venue in plain Python: the oracle of test_venue.py."""

from __future__ import annotations

from dataclasses import dataclass, field

UNDEF = 2**63 - 1
BID, ASK = 1, 2
DAY, IOC = 0, 1
HALTED, SUSPECT = 4, 2  # of event.flags


@dataclass
class Displayed:
    """The market: price -> size, by instrument and side; ``halted`` instruments don't trade."""

    levels: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    halted: set[int] = field(default_factory=set)

    def ladder(self, instrument: int, side: int) -> list[tuple[int, int]]:
        """Best first."""
        return sorted(self.levels.get((instrument, side), {}).items(), reverse=side == BID)

    def best(self, instrument: int, side: int) -> tuple[int, int]:
        return (self.ladder(instrument, side) or [(UNDEF, 0)])[0]


def crosses(side: int, limit: int, price: int) -> bool:
    """Would an order of ``side`` with ``limit`` trade at ``price``?"""
    return price <= limit if side == BID else price >= limit


@dataclass
class Resting:
    id: int
    instrument: int
    side: int
    price: int
    left: int

    def rank(self) -> int:
        return -self.price if self.side == BID else self.price


class VenueModel:
    def __init__(self, market: Displayed, orders_max: int) -> None:
        self.market = market
        self.orders_max = orders_max
        self.resting: list[Resting] = []  # oldest first
        self.reports: list[tuple[object, ...]] = []
        self.seen: dict[tuple[int, int], tuple[int, int]] = {}
        self.taken: dict[tuple[int, int], int] = {}

    def _say(self, kind: str, o: Resting, ts: int, price: int, size: int, aux: int = 0) -> None:
        self.reports.append((kind, o.id, o.instrument, o.side, price, size, aux, ts))

    def _see(self, instrument: int, side: int, best: tuple[int, int]) -> None:
        if self.seen.get((instrument, side)) != best:
            self.seen[instrument, side] = best
            self.taken[instrument, side] = 0

    def _fill(self, o: Resting, price: int, size: int, ts: int) -> None:
        o.left -= size
        self._say("FILL", o, ts, price, size, o.left)

    def _queue(self, instrument: int, side: int) -> list[Resting]:
        mine = [o for o in self.resting if (o.instrument, o.side) == (instrument, side)]
        return sorted(mine, key=Resting.rank)

    def _sweep(self) -> None:
        self.resting = [o for o in self.resting if o.left]

    def quote(
        self, i: int, bid: tuple[int, int], ask: tuple[int, int], flags: int, ts: int
    ) -> None:
        self._see(i, BID, bid)
        self._see(i, ASK, ask)
        if flags & (HALTED | SUSPECT):
            return
        for side, other, (price, size) in [(BID, ASK, ask), (ASK, BID, bid)]:
            for o in self._queue(i, side):
                room = size - self.taken[i, other]
                if price == UNDEF or room <= 0 or not crosses(side, o.price, price):
                    break
                take = min(room, o.left)
                self.taken[i, other] += take
                self._fill(o, o.price, take, ts)
        self._sweep()

    def trade(self, i: int, price: int, size: int, flags: int, ts: int) -> None:
        """What traded goes to our orders that it went through, bids and better ones first."""
        if flags & HALTED:
            return
        for o in self._queue(i, BID) + self._queue(i, ASK):
            through = price < o.price if o.side == BID else price > o.price
            take = min(o.left, size) if through else 0
            size -= take
            if take:
                self._fill(o, o.price, take, ts)
        self._sweep()

    def session(self, ts: int) -> None:
        for o in sorted(self.resting, key=lambda o: (o.instrument, o.side, o.rank())):
            self._say("CANCELED", o, ts, o.price, o.left)
        self.resting = []

    def new(self, o: Resting, force: int, ts: int) -> None:
        if (
            len(self.resting) == self.orders_max
            or any(r.id == o.id for r in self.resting)
            or (o.left == 0 or not 0 < o.price < UNDEF)
            or o.side not in (BID, ASK)
            or force not in (DAY, IOC)
            or o.instrument > 65535
        ):
            self._say("REJECT", o, ts, o.price, o.left, 15)
            return
        self._say("ACK", o, ts, o.price, o.left)
        if o.instrument not in self.market.halted:
            self._take(o, ts)
        if o.left and force == IOC:
            self._say("CANCELED", o, ts, o.price, o.left)
        elif o.left:
            self.resting.append(o)

    def _take(self, o: Resting, ts: int) -> None:
        other = ASK if o.side == BID else BID
        ladder = self.market.ladder(o.instrument, other)
        if not ladder:
            return
        self._see(o.instrument, other, ladder[0])
        already = self.taken[o.instrument, other]
        for price, size in ladder:
            room, already = max(0, size - already), max(0, already - size)
            take = min(room, o.left)
            if take and crosses(o.side, o.price, price):
                self.taken[o.instrument, other] += take
                self._fill(o, price, take, ts)

    def cancel(self, id_: int, ts: int) -> None:
        for o in self.resting:
            if o.id == id_:
                self._say("CANCELED", o, ts, o.price, o.left)
                self.resting.remove(o)
                return
        self.reports.append(("CANCEL_REJECT", id_, 0, 0, 0, 0, 17, ts))
