"""Work ahead of who needs it, in a thread, so far and no further."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

T = TypeVar("T")

_LOOK_S = 0.2  # how often a full queue is tried again, and looked at whether anybody still wants it


def ahead(make: Callable[[], Iterator[T]], n: int, name: str = "ahead") -> Generator[T, None, None]:
    """What an iterator yields, made in a thread up to ``n`` items before it is taken.

    The thread ends with this generator, however that ends; at most ``n`` + 1 items are held. Iterating gains something
    where making and taking both leave the interpreter (decoding, networks).

    Args:
        make: gives the iterator; called, and the iterator closed, in the thread.
        n: items made ahead, at least 1.
        name: of the thread.

    Raises:
        Whatever the iterator raises, where the item would have been taken.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(n)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None = None, *, last: bool = False) -> bool:
        while not stop.is_set():
            try:
                ready.put((item, error, last), timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        items: Iterator[T] | None = None
        try:
            items = make()
            for item in items:
                if not put(item):
                    return
            put(None, last=True)
        except BaseException as error:  # noqa: BLE001 - it is raised where the item is taken
            put(None, error, last=True)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=fill, daemon=True, name=name)
    thread.start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
