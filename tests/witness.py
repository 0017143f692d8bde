"""A strategy that orders nothing and writes down what it was told of losses."""

from __future__ import annotations

import os

import numpy as np

from pydpdk.stage.stage import KINDS, Events, Orders, Stage

TOLD = {KINDS["GAP"]: "gap", KINDS["LOST"]: "lost"}


class Witness(Stage):
    """Appends ``kind sequence count`` of each EVENT_GAP and EVENT_LOST to the file $WITNESS."""

    def __init__(self) -> None:
        self.file = open(os.environ["WITNESS"], "a", buffering=1)  # noqa: SIM115

    def on_batch(self, events: Events, orders: Orders) -> None:
        for event in events[np.isin(events["kind"], list(TOLD))]:
            self.file.write(f"{TOLD[event['kind']]} {event['sequence']} {event['order_id']}\n")
