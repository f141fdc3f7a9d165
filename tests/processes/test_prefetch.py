"""Items made ahead: order, bounds, errors, and no thread left behind."""

from __future__ import annotations

import threading
import time

import pytest

from deepscan.processes.prefetch import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "test-ahead"]


def test_everything_comes_in_order():
    assert list(ahead(lambda: iter(range(100)), 3)) == list(range(100))
    assert list(ahead(lambda: iter(()), 1)) == []
    assert list(ahead(lambda: iter([None, None]), 1)) == [None, None]


def test_no_more_is_made_than_asked_for():
    made = []

    def make():
        for number in range(50):
            made.append(number)
            yield number

    taken = ahead(make, 3)
    next(taken)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(made) == 5  # one taken, three waiting, one in hand
    taken.close()


def test_it_is_made_while_something_else_is_done():
    made = threading.Event()

    def make():
        yield 1
        made.set()
        yield 2

    taken = ahead(make, 1)
    assert next(taken) == 1
    assert made.wait(5)
    assert list(taken) == [2]


def test_errors_come_where_the_item_would():
    def make():
        yield 1
        raise ValueError("broken")

    taken = ahead(make, 2)
    assert next(taken) == 1
    with pytest.raises(ValueError, match="broken"):
        next(taken)
    with pytest.raises(ValueError, match="at once"):
        next(ahead(lambda: (_ for _ in ()).throw(ValueError("at once")), 1))


@pytest.mark.parametrize("n_taken", [0, 1, 3])
def test_neither_thread_nor_open_iterator_is_left(n_taken):
    closed = threading.Event()

    def make():
        try:
            yield from range(1000)
        finally:
            closed.set()

    taken = ahead(make, 2, "test-ahead")
    for _ in range(n_taken):
        next(taken)
    taken.close()
    assert not threads()
    assert closed.is_set() or not n_taken


def test_whoever_takes_may_fail():
    with pytest.raises(KeyError):
        for _ in ahead(lambda: iter(range(10)), 2, "test-ahead"):
            raise KeyError
    assert not threads()
