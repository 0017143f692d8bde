"""The C books against the naive ones of naive_book.py, on every kind of input."""

from __future__ import annotations

import mmap
import random
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydpdk._core import ffi, lib
from pydpdk.core.books import Books, Queue, Top
from pydpdk.core.event import ASK, BID
from pydpdk.core.layout import UNDEF_PRICE
from pydpdk.errors import CoreError, UsageError
from tests.naive_book import NaiveBooks

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
SOURCES = [CSRC / "book" / f"{noun}.c" for noun in ("book", "level", "order_map")]


class Both:
    """The C books and the naive ones, given the same operations and compared."""

    def __init__(self, books: Books) -> None:
        self.c, self.naive = books, NaiveBooks()
        self.change = ffi.new("struct book_change *")
        lib.books_clear(books.pointer)

    def same(self, code: int, expected: str) -> str:
        got = ffi.string(lib.counter_name(code)).decode() if code else ""
        assert got == expected
        return got

    def add(self, *order: int) -> str:
        return self.same(lib.book_add(self.c.pointer, *order), self.naive.add(*order))

    def reduce(self, order_id: int, size: int) -> str:
        before = self.naive.orders.get(order_id)
        place = before and tuple(before)
        code = lib.book_reduce(self.c.pointer, order_id, size, self.change)
        if place and size:
            taken = min(size, place[3])
            assert self.told() == (*place[:3], taken, place[3] - taken)
        return self.same(code, self.naive.reduce(order_id, size))

    def delete(self, order_id: int) -> str:
        place = self.naive.orders.get(order_id)
        code = lib.book_delete(self.c.pointer, order_id, self.change)
        if place:
            assert self.told() == (*place, 0)
        return self.same(code, self.naive.delete(order_id))

    def told(self) -> tuple[int, ...]:
        c = self.change
        return c.instrument, c.side, c.price, c.size, c.left

    def level(self, *level: int) -> str:
        return self.same(lib.book_level(self.c.pointer, *level), self.naive.level(*level))

    def clear(self, instrument: int | None = None) -> None:
        if instrument is None:
            lib.books_clear(self.c.pointer)
        else:
            lib.book_clear(self.c.pointer, instrument)
        self.naive.clear(instrument)

    def compare(self, instruments: range | list[int] = range(3)) -> None:
        assert self.c.orders == len(self.naive.orders)
        for i in instruments:
            for side, view in zip((BID, ASK), self.c.depth(i), strict=True):
                rows = view[["price", "size", "orders"]].tolist()
                assert rows == self.naive.levels(i, side)
            live = sum(order[0] == i for order in self.naive.orders.values())
            assert self.c.instruments["orders"][i] == live
        for order_id, place in self.naive.orders.items():
            order = self.c.order(order_id)
            assert order
            assert [order.instrument, order.side, order.price, order.size] == place
        assert self.c.hash() == self.naive.hash()


@pytest.fixture(scope="module")
def books():
    with Books.create(2000, 20_000, seed=7) as made:
        yield made


@pytest.fixture
def both(books):
    return Both(books)


IDS = {
    "sequential": lambda i: i,
    "stride 8": lambda i: i * 8,
    "stride 64": lambda i: i * 64 + 3,
    "stride 4096": lambda i: i * 4096,
    "stride 2^32": lambda i: (i << 32) + 5,
    "low bits equal": lambda i: i << 40 | 0xFFFFFFFF,
    "high ids": lambda i: 2**64 - 1 - i,
    "random": lambda i: random.Random(i).getrandbits(64),
}
SIDES = st.sampled_from([BID, ASK])
OPERATIONS = st.tuples(
    st.sampled_from(["add"] * 6 + ["reduce"] * 3 + ["delete"] * 2 + ["clear"]),
    st.sampled_from([0, 0, 0, 1, 1, 2, 65536]),
    SIDES,
    st.integers(0, 15),
    st.sampled_from([*range(-3, 9), *range(5), -(2**63), 2**63 - 2, 2**63 - 1]),
    st.sampled_from([*range(10), *range(1, 10), 2**32 - 1]),
)


@given(st.sampled_from(sorted(IDS)), st.lists(OPERATIONS, min_size=20, max_size=80))
def test_operations_right_and_wrong_agree_with_the_naive_books(books, pattern, operations):
    both = Both(books)
    for name, instrument, side, number, price, size in operations:
        order_id = IDS[pattern](number)
        if name == "add":
            both.add(instrument, side, order_id, price, size)
        elif name == "reduce":
            both.reduce(order_id, size)
        elif name == "delete":
            both.delete(order_id)
        elif instrument < 3:
            both.clear(instrument if number else None)
    both.compare()
    for order_id in both.naive.orders:
        assert books.queue(order_id) == Queue(*both.naive.queue(order_id))


@pytest.mark.parametrize("pattern", sorted(IDS))
def test_thousands_of_orders_come_and_go(both, pattern):
    """Map lines fill, spill and empty many times over: nothing is lost and nothing stays."""
    rng, id_of, live = random.Random(pattern), IDS[pattern], []
    for i in range(12_000):
        if rng.random() < (0.75 if i % 4000 < 2600 else 0.1) and len(live) < 1990:
            live.append(id_of(i))
            assert not both.add(
                rng.randrange(3),
                rng.choice([BID, ASK]),
                live[-1],
                rng.randrange(1, 60),
                rng.randrange(1, 99),
            )
        elif live:
            order_id = live.pop(rng.randrange(len(live)))
            both.delete(order_id)
            assert both.delete(order_id) == "book_unknown_order"
        if live and i % 3 == 0:
            both.reduce(live[-1], rng.randrange(1, 9))
            live = live if live[-1] in both.naive.orders else live[:-1]
        if i % 3000 == 2599:
            both.compare()
    assert lib.books_orders_peak(both.c.pointer) > 1000
    for order_id in live:
        both.delete(order_id)
    assert both.c.orders == 0
    both.compare()


LEVEL = st.tuples(
    st.sampled_from([0, 1]), SIDES, st.integers(-5, 40), st.sampled_from([0, 1, 2**40])
)


class Fetched(Both):
    """The same where operations of the C books have their memory fetched as one batch before."""

    def run(self, batch: list[tuple[str, int, int, int, int, int]]) -> None:
        """(kind, id, side, price, size, new id): A adds, D deletes, X reduces, U replaces."""
        fetches = []
        for kind, order_id, side, price, _, new in batch:
            what = lib.FETCH_ADD if kind == "A" else lib.FETCH_CHANGE
            fetches.append({"kind": what, "id": order_id, "instrument": 1})
            if kind == "A":
                fetches[-1] |= {"side": side, "price": price}
            if kind == "U":
                fetches.append({"kind": lib.FETCH_REPLACE, "id": new, "price": price})
        owner = ffi.new("struct book_fetch[]", fetches)
        lib.book_fetch(self.c.pointer, owner, len(fetches))
        self.fetch = owner + 0
        for op in batch:
            self.operate(*op)

    def operate(self, kind: str, order_id: int, side: int, price: int, size: int, new: int) -> None:
        pointer, fetch = self.c.pointer, self.fetch
        self.fetch += 2 if kind == "U" else 1
        if kind == "A":
            code = lib.book_add_fetched(pointer, fetch, 1, side, size)
            self.same(code, self.naive.add(1, side, order_id, price, size))
        elif kind == "X":
            code = lib.book_reduce_fetched(pointer, fetch, size, self.change)
            self.same(code, self.naive.reduce(order_id, size))
        else:
            code = lib.book_delete_fetched(pointer, fetch, self.change)
            deleted = self.same(code, self.naive.delete(order_id)) == ""
            if kind == "U" and deleted:
                code = lib.book_add_fetched(pointer, fetch + 1, 1, self.change.side, size)
                self.same(code, self.naive.add(1, self.change.side, new, price, size))


EIGHTS = st.integers(0, 11).map(lambda i: 8 * i)  # all prefer the same slot of a map line
BATCHES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from("AADDXU"), EIGHTS, SIDES, st.integers(98, 101),
            st.integers(1, 3), EIGHTS,
        ),
        max_size=30,
    ),
    max_size=4,
)  # fmt: skip


@given(BATCHES)
def test_what_was_fetched_is_only_a_hint(batches):
    with Books.create(16, 64, seed=3) as books:
        both = Fetched(books)
        for batch in batches:
            both.run(batch)
            both.compare()


@given(st.lists(LEVEL, max_size=120))
def test_price_level_books_agree_with_the_naive_ones(books, levels):
    both = Both(books)
    for level in levels:
        both.level(*level)
    both.compare()


@pytest.mark.parametrize("seed", range(8))
def test_wide_books_stay_sorted(both, seed):
    """Hundreds of levels, so that arrays grow, split and searches become binary."""
    rng = random.Random(seed)
    for i in range(1500):
        both.add(i % 3, rng.choice([BID, ASK]), i, rng.randrange(1, 700), 1 + i)
    for i in rng.sample(range(1500), 700):
        both.delete(i)
    both.compare()
    both.clear(1)
    both.compare()


def test_the_last_order_of_a_price_takes_the_level_with_it(both):
    both.add(0, BID, 1, 100, 10)
    both.add(0, BID, 2, 100, 20)
    assert both.c.top(0) == Top(100, 30, UNDEF_PRICE, 0)
    both.reduce(1, 10)
    assert both.c.top(0) == Top(100, 20, UNDEF_PRICE, 0)
    both.delete(2)
    assert both.c.top(0) == Top(UNDEF_PRICE, 0, UNDEF_PRICE, 0)


def test_hostile_118_unknown_orders_change_nothing(both):
    both.add(0, BID, 1, 100, 10)
    assert both.reduce(2, 5) == "book_unknown_order"
    assert both.delete(2) == "book_unknown_order"
    both.compare()


def test_hostile_119_duplicates_and_bad_sizes(both):
    both.add(0, BID, 1, 100, 10)
    assert both.add(1, ASK, 1, 200, 5) == "book_duplicate_order"
    assert both.add(0, BID, 2, 100, 0) == "book_bad_size"
    assert both.reduce(1, 0) == "book_bad_size"
    assert both.add(0, BID, 2, UNDEF_PRICE, 1) == "book_bad_price"
    assert both.add(65536, BID, 2, 1, 1) == "book_instrument"
    both.compare()
    assert both.reduce(1, 11) == "book_over_reduce"
    assert (both.change.size, both.change.left) == (10, 0)
    assert both.add(0, BID, 1, 100, 10) == ""
    both.compare()


def test_hostile_120_crossed_books_are_legal(both):
    both.add(0, BID, 1, 101, 10)
    both.add(0, ASK, 2, 100, 10)
    assert both.c.top(0) == Top(101, 10, 100, 10)
    both.compare()


def test_a_full_pool_refuses_and_recovers():
    with Books.create(5, 64, seed=1) as books:
        both = Both(books)
        for i in range(5):
            assert not both.add(0, BID, i, 100 + i, 1)
        code = lib.book_add(books.pointer, 0, BID, 9, 100, 1)
        assert ffi.string(lib.counter_name(code)) == b"book_full"
        assert both.add(0, BID, 4, 100, 1) == "book_duplicate_order"
        assert books.instruments["state"][0] & lib.BOOK_BROKEN
        both.compare()
        both.delete(3)
        assert not both.add(0, BID, 9, 100, 1)
        both.compare()
        both.clear(0)
        assert not books.instruments["state"][0] & lib.BOOK_BROKEN
        both.compare()


def test_a_full_level_arena_refuses_and_keeps_what_there_is():
    with Books.create(100, 8, seed=1) as books:
        both = Both(books)
        for price in range(4):
            assert not both.add(0, BID, price, price, 1)
        assert not both.add(1, ASK, 50, 7, 1)
        code = lib.book_add(books.pointer, 0, BID, 60, 99, 1)
        assert ffi.string(lib.counter_name(code)) == b"book_full"
        assert books.order(60) is None
        assert books.instruments["state"][0] & lib.BOOK_BROKEN
        both.compare()
        assert not both.add(0, BID, 60, 3, 5)
        code = lib.book_level(books.pointer, 0, BID, 99, 5)
        assert ffi.string(lib.counter_name(code)) == b"book_full"
        both.compare()


def test_arrays_that_were_given_back_are_split_to_the_last_level():
    with Books.create(100, 32, seed=1) as books:
        both = Both(books)
        for price in range(16):
            assert not both.add(9, BID, price, price, 1)
        both.clear(9)
        for i in range(8):
            assert not both.add(i, ASK, 10 * i, i, 1)
        both.compare(range(10))
        code = lib.book_add(books.pointer, 8, BID, 99, 1, 1)
        assert ffi.string(lib.counter_name(code)) == b"book_full"


def test_a_level_made_of_orders_is_not_set(both):
    both.add(0, BID, 1, 100, 10)
    for size in (0, 7):
        code = lib.book_level(both.c.pointer, 0, BID, 100, size)
        assert ffi.string(lib.counter_name(code)) == b"book_unknown_level"
    both.compare()


def test_sessions_begin_empty_however_full_the_last_one_was(both):
    for orders in (3, 1900):
        for i in range(orders):
            both.add(i % 3, BID, i, i % 50, 1)
        lib.book_of(both.c.pointer, 1).symbol = b"ABC     "
        before = both.c.instruments["version"][0]
        both.clear()
        both.compare()
        assert both.c.hash() == 0
        book = both.c.instruments[1]
        assert (book["symbol"], book["bid"], book["ask"], book["state"]) == (
            b"",
            UNDEF_PRICE,
            UNDEF_PRICE,
            0,
        )
        assert both.c.instruments["version"][0] > before
        for i in range(orders):
            assert not both.add(0, ASK, i, i, 2)
        both.compare()
        both.clear()


def test_instruments_are_found_by_symbol(both):
    lib.book_of(both.c.pointer, 2).symbol = b"QQQ     "
    assert both.c.instrument("QQQ") == both.c.instrument(b"QQQ     ") == 2
    lib.book_of(both.c.pointer, 2).symbol = b"TQQQ    "
    assert both.c.instrument("TQQQ") == 2
    with pytest.raises(UsageError, match="QQQ"):
        both.c.instrument("QQQ")
    both.naive.symbols[2] = b"TQQQ"
    both.add(2, BID, 1, 5, 5)
    both.compare()
    with pytest.raises(UsageError, match="65536"):
        both.c.depth(65536)


def test_views_are_read_only_and_without_copy(both):
    both.add(0, BID, 1, 100, 10)
    both.add(0, BID, 2, 101, 10)
    bids, asks = both.c.depth(0)
    assert (bids["price"].tolist(), len(asks)) == ([101, 100], 0)
    both.add(0, BID, 3, 101, 5)
    assert bids["size"][0] == 15
    assert not bids.flags.writeable
    assert np.shares_memory(bids, both.c.levels)
    assert [len(side) for side in both.c.depth(0, 1)] == [1, 0]


def test_a_read_that_a_change_overtakes_is_done_again(both):
    both.add(0, BID, 1, 100, 10)
    seen = []

    def look(bids, asks):
        if not seen:
            both.add(0, BID, 2, 101, 10)
        seen.append(len(bids))
        return bids["price"].tolist()

    assert both.c.read(0, look) == [101, 100]
    assert seen == [1, 2]


def test_a_book_that_never_rests_is_given_up(both):
    both.add(0, BID, 1, 100, 2**32 - 1)
    with pytest.raises(CoreError, match="EAGAIN"):
        both.c.read(0, lambda *_: both.reduce(1, 1))


def test_snapshots_are_copies_of_the_best(both):
    for i in range(9):
        both.add(0, ASK, i, 100 + i, 1 + i)
    bids, asks = both.c.snapshot(0, 3)
    both.clear(0)
    assert (len(bids), asks["price"].tolist()) == (0, [100, 101, 102])


def test_what_cannot_be_made_is_refused():
    for orders, levels in ((0, 1), (1, 0), (2**31, 1), (1, 2**31)):
        with pytest.raises(CoreError, match="EINVAL"):
            Books.create(orders, levels)


def compiled(tmp_path: Path, *options: str) -> Path:
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler (cc)")
    out = tmp_path / "book_read"
    command = [
        cc,
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pthread",
        f"-I{CSRC}",
        *options,
        str(HERE / "c" / "book_read.c"),
        *map(str, SOURCES),
        "-o",
        str(out),
    ]
    subprocess.run(command, check=True)
    return out


def test_readers_on_another_thread_never_see_a_torn_book(tmp_path):
    done = subprocess.run([compiled(tmp_path)], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stdout


def test_without_the_version_they_would(tmp_path):
    program = compiled(tmp_path, "-DIGNORE_VERSION")
    for _ in range(5):  # a second each, at most: on one core tearing needs a switch in a write
        if (done := subprocess.run([program], capture_output=True, timeout=30)).returncode == 1:
            return
    pytest.skip(f"this host never switched threads inside a write: {done.stdout!r}")


@pytest.mark.slow
def test_hostile_125_a_hundred_thousand_levels_in_one_book():
    """Worst case first: every level goes in before all others."""
    with Books.create(200_000, 400_000, seed=3) as books:
        add, count = lib.book_add, 100_000
        start = time.thread_time()
        for i in range(count):
            assert add(books.pointer, 0, BID, i, count - i, 1) == 0
        for i in range(count, 2 * count):
            assert add(books.pointer, 0, BID, i, 1 + i * 7919 % count, 2) == 0
        assert time.thread_time() - start < 60
        bids, _ = books.depth(0)
        assert np.array_equal(bids["price"], np.arange(count, 0, -1))
        assert (bids["size"] == 3).all()
        lib.book_clear(books.pointer, 0)
        assert (books.orders, len(books.depth(0)[0])) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["sequential", "stride 4096", "low bits equal"])
def test_hostile_125_a_million_orders_are_bounded(pattern):
    """Time per order stays that of a small book, whatever the ids; 64 bytes an order at most."""
    count, id_of = 1_000_000, IDS[pattern]
    with Books.create(count, 1 << 18) as books:
        fixed = books.instruments.nbytes + books.levels.nbytes
        assert books.memory - fixed <= 64 * count
        add, pointer, change = lib.book_add, books.pointer, ffi.new("struct book_change *")
        start = time.thread_time()
        for i in range(count):
            assert not add(pointer, i & 0x1FFF, BID, id_of(i), i & 15, 1)
        slowest = 0.0
        for i in range(0, count, 3):
            begun = time.perf_counter()
            assert not lib.book_delete(pointer, id_of(i), change)
            slowest = max(slowest, time.perf_counter() - begun)
        assert time.thread_time() - start < 30
        assert slowest < 0.5
        assert books.orders == count - len(range(0, count, 3))
        start = time.thread_time()
        lib.books_clear(pointer)
        assert time.thread_time() - start < 2
        assert books.hash() == 0


@pytest.mark.slow
def test_ten_million_live_orders_of_ten_thousand_instruments() -> None:
    count, instruments = 10_000_000, 10_000
    with Books.create(count, 1 << 20, seed=1) as books:
        pointer, add = books.pointer, lib.book_add
        for i in range(count):
            assert add(pointer, i % instruments, BID, i + 1, 1_000_000 + i % 17, 100) == 0
        assert lib.books_orders(pointer) == count
        assert add(pointer, 0, BID, count + 1, 1, 1) != 0  # full, and said so
        assert books.memory - lib.books_levels_room(pointer) * 32 - (8 << 20) <= 64 * count
        assert books.order(count // 2) is not None
        top = books.snapshot(7, 1)[0]
        assert top["size"][0] == 100 * top["orders"][0]
        change = ffi.new("struct book_change *")
        for i in range(1, count, 1000):
            assert lib.book_delete(pointer, i, change) == 0
            assert change.left == 0
        assert lib.books_orders(pointer) == count - count // 1000


def test_books_may_stand_anywhere() -> None:
    """Copied byte for byte to another address they are the same books, and go on as such."""
    with Books.create(1 << 12, 1 << 12) as books, mmap.mmap(-1, books.memory) as copy:
        for i in range(3_000):
            assert lib.book_add(books.pointer, i % 5, BID + i % 2, i, 100 + i % 40, 1 + i) == 0
        copy.write(ffi.buffer(books.pointer, books.memory))
        moved = ffi.cast("struct books *", ffi.from_buffer(copy))
        change = ffi.new("struct book_change *")
        for pointer in (books.pointer, moved):
            for i in range(0, 3_000, 7):
                assert lib.book_delete(pointer, i, change) == 0
            assert lib.book_add(pointer, 1, BID, 1 << 40, 77, 5) == 0
        assert lib.books_hash(moved) == books.hash() != 0
        assert lib.book_find(moved, 8).price == lib.book_find(books.pointer, 8).price
        del moved, pointer  # they hold the copy's memory


def test_a_hash_can_be_kept_level_by_level() -> None:
    """What a change adds to the sum does not depend on what else is in the books."""
    with Books.create(64, 64) as one, Books.create(64, 64) as other:
        lib.book_add(other.pointer, 3, ASK, 1, 500, 7)
        alone, beside = one.hash(), other.hash()
        for books in (one, other):
            lib.book_add(books.pointer, 2, BID, 9, 100, 4)
        assert (one.hash() - alone) % 2**64 == (other.hash() - beside) % 2**64
