"""A strategy per event: one method per kind of record, declared state that can be saved.

It follows runs: after ``run`` executions in a row at rising (falling) prices it buys (sells) at
the price of the last one.
"""

from pydpdk import Event, Orders, Stage


class Momentum(Stage):
    state = {"price": ("i8", 65536), "run": ("i4", 65536)}

    def __init__(self, run: int = 3, size: int = 100) -> None:
        self.run = run
        self.size = size

    def on_execute(self, trade: Event, orders: Orders) -> None:
        price, run = self.state["price"], self.state["run"]
        i = trade.instrument_id & 0xFFFF
        last, price[i] = int(price[i]), trade.price
        if last == 0 or trade.price == last:
            return
        up = trade.price > last
        run[i] = max(run[i], 0) + 1 if up else min(run[i], 0) - 1
        if abs(run[i]) == self.run:
            order = orders.buy if up else orders.sell
            order(trade.instrument_id, trade.price, self.size)
            run[i] = 0

    def on_session(self, event: Event, orders: Orders) -> None:
        self.state["price"] = 0
        self.state["run"] = 0
