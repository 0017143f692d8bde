"""A strategy that hears of its own orders: fills move its inventory, and inventory its quotes.

It keeps one bid and one offer around the middle of one instrument, shifts both against what it
holds, and replaces them when the middle has moved by a tick.
"""

from pydpdk import ASK, BID, UNDEF_PRICE, Event, Orders, Quote, Stage

TICK = 10_000_000  # a cent, in units of 1e-9


class MarketMaker(Stage):
    state = {"position": "i8", "middle": "i8", "working": ("u8", 3)}  # working: order id by side

    def __init__(self, instrument: int, half_spread: int = 2 * TICK, size: int = 100) -> None:
        self.instrument = instrument
        self.half_spread = half_spread
        self.size = size

    def on_quote(self, quote: Quote, orders: Orders) -> None:
        if quote.instrument_id != self.instrument or UNDEF_PRICE in (quote.bid, quote.ask):
            return
        lean = int(self.state["position"]) // self.size * TICK
        middle = (quote.bid + quote.ask) // 2 // TICK * TICK - lean
        if abs(middle - int(self.state["middle"])) < TICK:
            return
        self.state["middle"] = middle
        for side in (BID, ASK):
            if self.state["working"][side]:
                orders.cancel(self.state["working"][side])
        self.state["working"][BID] = orders.buy(
            self.instrument, middle - self.half_spread, self.size
        )
        self.state["working"][ASK] = orders.sell(
            self.instrument, middle + self.half_spread, self.size
        )

    def on_fill(self, fill: Event, orders: Orders) -> None:
        self.state["position"] += fill.size if fill.side == BID else -fill.size
        if fill.aux == 0:
            self._gone(fill)

    def on_reject(self, reject: Event, orders: Orders) -> None:
        self._gone(reject)

    def on_canceled(self, canceled: Event, orders: Orders) -> None:
        self._gone(canceled)

    def _gone(self, report: Event) -> None:
        working = self.state["working"]
        if working[report.side] == report.order_id:
            working[report.side] = 0
            self.state["middle"] = 0  # quote again at the next chance
