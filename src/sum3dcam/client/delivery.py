"""A request's way to its answer: over which address, with how much time, and whether again. It knows no transport."""

import asyncio
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sum3dcam.client.request import check_size, option_texts
from sum3dcam.client.settings import DEFAULTS, Settings, key_headers
from sum3dcam.contract import UNIX_TIME_FROM_MS
from sum3dcam.errors import (
    BadOptionError,
    DeadlineExceededError,
    LostError,
    RefusedError,
    ServerError,
    Sum3DCamError,
    UnreachableError,
    WorkerDiedError,
)

# An address that took no connection is asked last for this long.
REST_SECONDS = 5.0
# After each round over the addresses, doubled every time, less up to half of it by chance.
PAUSE_SECONDS = 0.25

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Attempt:
    """One sending: to the address at that place, with these options, until `end` of the monotonic clock."""

    place: int
    address: str
    options: Mapping[str, str]
    timeout_seconds: float
    end: float
    until_deadline: bool

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.end

    def late(self) -> Sum3DCamError:
        """The error for an answer that did not come in time."""
        if self.until_deadline:
            return DeadlineExceededError(f"no answer from {self.address} by the deadline")
        return UnreachableError(f"no answer from {self.address} in time; give it longer, or a shorter video")


class Route:
    """A client's addresses, taken in turn, and its settings. Safe to share between threads.

    Raises:
        BadOptionError: no address, or a key that cannot be sent.
    """

    def __init__(self, addresses: Sequence[str], *, settings: Settings) -> None:
        if not addresses:
            raise BadOptionError("a client needs the address of a server", got=addresses)
        self.addresses = tuple(addresses)
        self.settings: Settings = {**DEFAULTS, **settings}
        self.headers = key_headers(self.settings["api_key"])
        self._turns = itertools.count()
        self._resting_until = [0.0] * len(addresses)

    def order(self) -> list[int]:
        """The addresses' places from the next one on; those that rest come last."""
        now, first = time.monotonic(), next(self._turns)
        places = [(first + step) % len(self.addresses) for step in range(len(self.addresses))]
        return sorted(places, key=lambda place: self._resting_until[place] > now)

    def rest(self, place: int) -> None:
        """Notes that this address took no connection."""
        self._resting_until[place] = time.monotonic() + REST_SECONDS

    def delivery(self, data: bytes, options: Mapping[str, object]) -> "Delivery":
        """The way of one request.

        Raises:
            TooLargeError: more bytes than the limit.
        """
        check_size(len(data), max_message_bytes=self.settings["max_message_bytes"])
        return Delivery(option_texts(options), route=self)


class Delivery:
    """One request under way; `deliver` and `deliver_async` drive it."""

    def __init__(self, options: Mapping[str, str], *, route: Route) -> None:
        began = time.monotonic()
        left = _seconds_left(options)
        self._options = options
        self._route = route
        self._order = route.order()
        self._deadline = began + left
        self._end = began + min(left, route.settings["timeout_seconds"])
        self._failures: Counter[type[ServerError]] = Counter()

    def attempt(self) -> Attempt:
        """The next sending.

        Raises:
            DeadlineExceededError: it is too late for one.
        """
        now = time.monotonic()
        place = self._order[self._failures.total() % len(self._order)]
        attempt = Attempt(
            place=place,
            address=self._route.addresses[place],
            options=_remaining(self._options, seconds=self._deadline - now) if self._failures else self._options,
            timeout_seconds=self._end - now,
            end=self._end,
            until_deadline=self._end == self._deadline,
        )
        if attempt.timeout_seconds <= 0:
            raise attempt.late()
        return attempt

    def pause_after(self, error: ServerError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            ServerError: the error itself, where the request must not be sent again or the time is up.
        """
        retries, failed = self._route.settings["retries"], type(error)
        again = {
            RefusedError: retries.rounds * len(self._order) - 1,
            LostError: retries.resends,
            WorkerDiedError: retries.worker_deaths - 1,
        }
        if failed is RefusedError:
            self._route.rest(self._order[self._failures.total() % len(self._order)])
        self._failures[failed] += 1
        if self._failures[failed] > again.get(failed, 0):
            raise error
        rounds, place = divmod(self._failures.total(), len(self._order))
        pause = 0.0 if place else PAUSE_SECONDS * 2 ** (rounds - 1) * random.uniform(0.5, 1)
        if time.monotonic() + pause >= self._end:
            raise error
        return pause


def deliver(send: Callable[[Attempt], Answer], delivery: Delivery) -> Answer:
    """The answer to the first attempt that has one; blocks.

    Raises:
        Sum3DCamError: what the last attempt raised.
    """
    while True:
        try:
            return send(delivery.attempt())
        except ServerError as error:
            pause = delivery.pause_after(error)
        time.sleep(pause)


async def deliver_async(send: Callable[[Attempt], Awaitable[Answer]], delivery: Delivery) -> Answer:
    """As `deliver`, awaited."""
    while True:
        try:
            return await send(delivery.attempt())
        except ServerError as error:
            pause = delivery.pause_after(error)
        await asyncio.sleep(pause)


def _seconds_left(options: Mapping[str, str]) -> float:
    """Until the deadline; infinity without one, or with one that only the server can judge."""
    text = options.get("deadline_ms", "")
    if not text.isdecimal() or int(text) == 0:
        return math.inf
    milliseconds = int(text)
    return milliseconds / 1000 - (time.time() if milliseconds >= UNIX_TIME_FROM_MS else 0)


def _remaining(options: Mapping[str, str], *, seconds: float) -> Mapping[str, str]:
    """The options with a duration as deadline shortened to what is left of it; a time of day stays."""
    if math.isinf(seconds) or int(options["deadline_ms"]) >= UNIX_TIME_FROM_MS:
        return options
    return {**options, "deadline_ms": str(max(1, math.ceil(seconds * 1000)))}
