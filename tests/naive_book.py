"""The books again, as plainly as they can be said: the oracle of the C books."""

from __future__ import annotations

from dataclasses import dataclass, field

BID, ASK = 1, 2
NONE = 2**63 - 1


@dataclass
class NaiveBooks:
    """Every operation gives "" or the name of the counter that says why nothing changed."""

    orders: dict[int, list[int]] = field(default_factory=dict)  # id: instrument, side, price, size
    totals: dict[tuple[int, int, int], int] = field(default_factory=dict)  # price-level books
    symbols: dict[int, bytes] = field(default_factory=dict)

    def add(self, instrument: int, side: int, order_id: int, price: int, size: int) -> str:
        refused = {
            "book_instrument": not 0 <= instrument < 65536,
            "book_bad_size": size == 0,
            "book_bad_price": price == NONE,
            "book_duplicate_order": order_id in self.orders,
        }
        if any(refused.values()):
            return next(name for name, wrong in refused.items() if wrong)
        self.orders[order_id] = [instrument, side, price, size]
        return ""

    def reduce(self, order_id: int, size: int) -> str:
        if order_id not in self.orders:
            return "book_unknown_order"
        if size == 0:
            return "book_bad_size"
        left = self.orders[order_id][3] - size
        self.orders[order_id][3] = left
        if left <= 0:
            del self.orders[order_id]
        return "book_over_reduce" if left < 0 else ""

    def delete(self, order_id: int) -> str:
        return "" if self.orders.pop(order_id, None) else "book_unknown_order"

    def replace(self, old: int, new: int, price: int, size: int) -> str:
        """The old order is gone even when the new one is refused, as two messages would do it."""
        if old not in self.orders:
            return "book_unknown_order"
        instrument, side, *_ = self.orders.pop(old)
        return self.add(instrument, side, new, price, size)

    def level(self, instrument: int, side: int, price: int, size: int) -> str:
        at = (instrument, side, price)
        if size == 0 and at not in self.totals:
            return "book_unknown_level"
        self.totals[at] = size
        if size == 0:
            del self.totals[at]
        return ""

    def clear(self, instrument: int | None = None) -> None:
        def keep(at: int) -> bool:
            return instrument is not None and at != instrument

        self.orders = {i: o for i, o in self.orders.items() if keep(o[0])}
        self.totals = {at: size for at, size in self.totals.items() if keep(at[0])}

    def levels(self, instrument: int, side: int) -> list[tuple[int, int, int]]:
        """(price, size, orders), best first."""
        found = {p: (s, 0) for (i, d, p), s in self.totals.items() if (i, d) == (instrument, side)}
        for where, s, price, size in self.orders.values():
            if (where, s) == (instrument, side):
                total, count = found.get(price, (0, 0))
                found[price] = total + size, count + 1
        return [(p, *found[p]) for p in sorted(found, reverse=side == BID)]

    def queue(self, order_id: int) -> tuple[int, int] | None:
        """Shares and orders ahead: dicts keep the order of arrival."""
        if order_id not in self.orders:
            return None
        place = self.orders[order_id][:3]
        ids = list(self.orders)
        ahead = [self.orders[i] for i in ids[: ids.index(order_id)]]
        sizes = [order[3] for order in ahead if order[:3] == place]
        return sum(sizes), len(sizes)

    def hash(self) -> int:
        total = 0
        used = {o[0] for o in self.orders.values()} | {at[0] for at in self.totals}
        for i in sorted(used):
            name = self.symbols[i].ljust(8) if i in self.symbols else i.to_bytes(8, "little")
            for side in (BID, ASK):
                for price, size, orders in self.levels(i, side):
                    row = name + bytes([side]) + price.to_bytes(8, "little", signed=True)
                    row += size.to_bytes(8, "little") + orders.to_bytes(4, "little")
                    value = 0xCBF29CE484222325
                    for byte in row:
                        value = (value ^ byte) * 0x100000001B3 % 2**64
                    total += value
        return total % 2**64
