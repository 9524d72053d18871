"""Which worker gets which items of a job, so that a slow machine and a fast one end at the same time.

Guided self-scheduling (Polychronopoulos and Kuck, 1987), by each worker's measured speed. Nothing here waits,
sends or looks at a clock: whoever uses it tells it of workers, results and the time.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

AIM = (
    10.0  # seconds of work in a portion: what is lost with a worker, and a hundred times what a message takes
)
LARGEST = 16 << 20  # bytes of a portion, but for a single item: they wait in the scheduler's memory
DEATHS = 3  # workers that ended with an item: it is not given to a fourth
SHARE = 2  # a worker gets at most one of so many parts of what it would do of the rest


@dataclass(eq=False)
class Portion:
    """Items of one worker, by their numbers; `began` in seconds."""

    worker: str
    items: dict[int, bytes]
    began: float


@dataclass
class Worker:
    together: int  # items that it computes together: of fewer it is not as fast as it can be
    seconds: float | None = None  # of an item, measured
    portion: Portion | None = None


@dataclass
class Portions:
    """`items` are taken as they are needed, and `total` is about how many they are. They can be handed out
    `alone`, in a portion each.

    done  so many have a result, or are lost
    lost  the numbers of items that DEATHS workers ended with -> these workers; who uses this takes them out
    """

    items: Iterator[bytes]
    total: int
    alone: bool = False
    done: int = 0
    lost: dict[int, list[str]] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbered = enumerate(self.items)
        self._back = deque[tuple[int, bytes]]()  # what waits and was taken from `items` already
        self._out = Counter[int]()  # items without a result -> portions that they are in
        self._deaths = dict[int, list[str]]()

    @property
    def over(self) -> bool:
        if self._out or self._back:
            return False
        if found := next(self._numbered, None):
            self._back.append(found)
        return not found

    def join(self, worker: str, together: int = 1) -> None:
        self.workers[worker] = Worker(together)

    def leave(self, worker: str) -> None:
        """Its items go to others; those that too many ended with become `lost`."""
        left = self.workers.pop(worker, None)
        for number, item in (left.portion.items if left and left.portion else {}).items():
            if number not in self._out:  # another one had it, too, and was faster
                continue
            deaths = self._deaths.setdefault(number, [])
            deaths.append(worker)
            self._out[number] -= 1
            if self._out[number]:
                continue
            del self._out[number]
            if len(deaths) >= DEATHS:
                self.lost[number] = self._deaths.pop(number)
                self.done += 1
            else:
                self._back.append((number, item))

    def take(self, now: float) -> Portion | None:
        """What the fastest idle worker is to do, or None if there is nothing to do for any of them now."""
        idle = [name for name, worker in self.workers.items() if worker.portion is None]
        name = min(idle, key=lambda name: self.workers[name].seconds or math.inf, default=None)
        if name is None:
            return None
        items = self._waiting(self._size(self.workers[name])) or self._of_a_slow_one(name, now)
        if not items:
            return None
        self._out.update(items.keys())
        portion = self.workers[name].portion = Portion(name, items, now)
        return portion

    def answered(self, portion: Portion, now: float) -> list[int]:
        """All of a portion has results: the numbers of those that are the first of their items."""
        worker = self.workers.get(portion.worker)
        if worker is None or worker.portion is not portion:  # it counts as gone, and others have its items
            return []
        worker.portion = None
        worker.seconds = max(1e-6, (now - portion.began) / len(portion.items))
        first = [number for number in portion.items if number in self._out]
        for number in first:
            del self._out[number]
            self._deaths.pop(number, None)
        self.done += len(first)
        return first

    def _waiting(self, size: int) -> dict[int, bytes]:
        """The next items, at most so many."""
        items, nbytes = dict[int, bytes](), 0
        while len(items) < size and (
            found := self._back.popleft() if self._back else next(self._numbered, None)
        ):
            number, item = found
            suspect = len(self._deaths.get(number, ())) == DEATHS - 1  # it may end this worker, too
            if items and (suspect or nbytes + len(item) > LARGEST):
                self._back.appendleft(found)
                break
            items[number], nbytes = item, nbytes + len(item)
            if suspect:
                break
        return items

    def _size(self, worker: Worker) -> int:
        """First what it computes together, then AIM seconds of work, and towards the end its share."""
        if self.alone:
            return 1
        slowest = max((w.seconds for w in self.workers.values() if w.seconds), default=1.0)
        speeds = sum(1 / (w.seconds or slowest) for w in self.workers.values())
        rest = self.total - self.done - len(self._out)
        share = rest / (worker.seconds or slowest) / speeds / SHARE
        most = worker.together if worker.seconds is None else max(worker.together, AIM / worker.seconds)
        return max(1, int(min(most, share)))

    def _of_a_slow_one(self, name: str, now: float) -> dict[int, bytes]:
        """Nothing waits any more: what would be done last, if this worker would do it sooner. The first
        result of an item counts. With those that ended with it, at most DEATHS workers get it, the last of
        them alone: it may end them all."""

        def end(portion: Portion) -> float:
            """As expected; of one that is late, in as long again as it has taken."""
            expected = portion.began + (self.workers[portion.worker].seconds or 0) * len(portion.items)
            return expected if expected > now else 2 * now - portion.began

        def had(number: int) -> int:
            return self._out[number] + len(self._deaths.get(number, ()))

        running = [worker.portion for worker in self.workers.values() if worker.portion]
        ends = dict[int, float]()  # of items that another worker may get: their first result, as expected
        for portion in running:
            until = end(portion)
            for number in portion.items:
                if number in self._out and had(number) < DEATHS:
                    ends[number] = min(ends.get(number, math.inf), until)

        last = max(ends, key=ends.__getitem__, default=None)
        some = next((p.items for p in running if last in p.items), {})
        alone = last is not None and had(last) == DEATHS - 1
        numbers = [n for n in some if n in ends and (n == last if alone else had(n) < DEATHS - 1)]
        slowest = max((worker.seconds for worker in self.workers.values() if worker.seconds), default=0.0)
        each = self.workers[name].seconds or slowest  # of a new one, at least
        return {n: some[n] for n in numbers if now + each * len(numbers) < ends[n]}
