"""Quality by what the machine can do: watches what frames cost, and goes one level down or up a ladder.

    tier base -> small -> tiny -> full checks of the frame more rarely -> every second frame

Down after a second in which frames took nearly all of their time. Up only after many quiet seconds, and only if the
level above is expected to fit; one that had to be left again is tried ever more rarely (hysteresis). Pure decisions:
time and costs come in, a level comes out. What a level means is carried out by whoever asks (``quality.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RELATIVE_COST = {"tiny": 1.0, "small": 2.6, "base": 7.0}
"""Of a tier's network, int8 with one thread, measured; used for a tier that has not run here yet."""
NETWORK_SHARE = 0.35
"""Of a frame's cost with the tiny network, in about; the rest does not depend on the tier."""


@dataclass(frozen=True, slots=True)
class Level:
    """One rung."""

    tier: str
    check_every: int = 30
    """Frames between two looks at the whole picture while a face is followed."""
    search_every: int = 1
    """Without a face, search in every so many-th frame."""
    send_every: int = 1
    """Work on every so many-th frame of the source."""

    def __str__(self) -> str:
        text = f"tier {self.tier}"
        if self.check_every > 30:
            text += ", fewer checks"
        return text + (f", every {self.send_every}nd frame" if self.send_every == 2 else "")


@dataclass(frozen=True, slots=True)
class GovernorConfig:
    """When to move. Loads are shares of the frame time."""

    high: float = 0.92
    """Above this (nine frames in ten of a window take less) the level is too expensive."""
    low: float = 0.7
    """The level above must be expected to stay below this."""
    window_s: float = 1.0
    up_after_s: float = 8.0
    """Quiet time before a level up; twice as long after each that had to be left again, up to ``up_most_s``."""
    up_most_s: float = 240.0
    settle_s: float = 1.5
    """After a change costs are not looked at: caches are cold, and the frame behind it is late."""


@dataclass(frozen=True, slots=True)
class Change:
    """From one level to another."""

    at_s: float
    """Since the first frame."""
    before: Level
    after: Level
    reason: str


def ladder(tiers: Sequence[str]) -> tuple[Level, ...]:
    """Levels from the best to the cheapest; ``tiers`` from the largest to the smallest."""
    if not tiers:
        raise ValueError("a ladder needs a tier")
    smallest = tiers[-1]
    return (
        *(Level(tier) for tier in tiers),
        Level(smallest, check_every=90, search_every=2),
        Level(smallest, check_every=90, search_every=2, send_every=2),
    )


class Governor:
    """Decides. Called once per frame from one thread; ``decided`` levels count from the next call on."""

    def __init__(
        self, levels: Sequence[Level], start: int, frame_s: float, config: GovernorConfig = GovernorConfig()
    ) -> None:
        """``frame_s``: time between two frames of the source. ``start`` is the index of the level that runs."""
        self.levels, self.config = tuple(levels), config
        self.at = start
        self.changes: list[Change] = []
        self._frame_s = frame_s
        self._costs = np.zeros(512, np.float64)
        self._count = 0
        self._late = 0
        self._began: float | None = None
        self._window_s = self._quiet_s = self._deaf_until_s = 0.0
        self._ratios: dict[int, float] = {}
        """Level -> its cost over that of the level below, when that one took over from it."""
        self._left: tuple[int, float] | None = None
        """The level that was just left for a lower one, and its cost."""
        self._wait_s = config.up_after_s
        self._climbed_s: float | None = None
        self._refused: set[int] = set()

    @property
    def level(self) -> Level:
        """That should run."""
        return self.levels[self.at]

    def refuse(self, at: int) -> None:
        """A level cannot run at all, for example because its file is damaged: it is not tried again."""
        self._refused.add(at)

    def observe(self, now_s: float, cost_s: float, dropped: int) -> Change | None:
        """One frame went out: what it cost, and how many were lost at the source since the one before.

        Returns the change to make, if one is due; the caller makes it, or calls ``back``.
        """
        if self._began is None:
            self._began = self._window_s = self._quiet_s = now_s
            self._deaf_until_s = now_s + self.config.settle_s
        if now_s < self._deaf_until_s:
            self._window_s = now_s
            return None
        self._costs[self._count % len(self._costs)] = cost_s
        self._count += 1
        self._late += dropped
        if now_s - self._window_s < self.config.window_s or self._count < 3:
            return None
        return self._judge(now_s)

    def back(self, change: Change) -> None:
        """The change could not be made."""
        self.at = self.levels.index(change.before)

    def _judge(self, now_s: float) -> Change | None:
        costs = self._costs[: min(self._count, len(self._costs))]
        nine_in_ten, typical = (float(value) for value in np.percentile(costs, (90, 50)))
        frames, late = self._count, self._late
        self._window_s, self._count, self._late = now_s, 0, 0
        if self._left is not None:
            # The load of other programs may have changed meanwhile: within half and twice what the tiers suggest.
            above, cost_s = self._left
            usual = self._usual_ratio(above)
            self._ratios[above] = float(np.clip(cost_s / max(typical, 1e-6), max(1.0, 0.5 * usual), 2.0 * usual))
            self._left = None
        budget_s = self._frame_s * self.level.send_every
        if nine_in_ten > self.config.high * budget_s or (late > frames // 4 and typical > 0.6 * budget_s):
            self._quiet_s = now_s
            return self._down(now_s, nine_in_ten, typical, budget_s)
        if nine_in_ten > self.config.low * budget_s:
            self._quiet_s = now_s
        if self._climbed_s is not None and now_s - self._climbed_s > self._wait_s:
            # It has held: the next climb need not be rarer.
            self._climbed_s, self._wait_s = None, self.config.up_after_s
        return self._up(now_s, typical) if now_s - self._quiet_s >= self._wait_s else None

    def _down(self, now_s: float, cost_s: float, typical_s: float, budget_s: float) -> Change | None:
        below = next((at for at in range(self.at + 1, len(self.levels)) if at not in self._refused), None)
        if below is None:
            return None
        if self._climbed_s is not None:
            self._wait_s, self._climbed_s = min(2 * self._wait_s, self.config.up_most_s), None
        if below == self.at + 1:
            self._left = self.at, typical_s
        return self._move(now_s, below, f"a frame takes {cost_s * 1e3:.1f} ms of {budget_s * 1e3:.1f}")

    def _up(self, now_s: float, typical_s: float) -> Change | None:
        above = next((at for at in range(self.at - 1, -1, -1) if at not in self._refused), None)
        if above is None:
            return None
        level = self.levels[above]
        if self.expected_s(above, typical_s) > self.config.low * self._frame_s * level.send_every:
            self._quiet_s = now_s
            return None
        self._climbed_s = now_s
        return self._move(now_s, above, f"a frame takes {typical_s * 1e3:.1f} ms, there is room for more")

    def expected_s(self, above: int, typical_s: float) -> float:
        """What a frame would cost at the level above, from what it costs now: as seen when that level was left."""
        return typical_s * self._ratios.get(above, self._usual_ratio(above))

    def _usual_ratio(self, above: int) -> float:
        """By the tiers alone."""
        there, here = (RELATIVE_COST.get(self.levels[at].tier, 1.0) for at in (above, self.at))
        fixed = (1.0 - NETWORK_SHARE) / NETWORK_SHARE
        return (there + fixed) / (here + fixed)

    def _move(self, now_s: float, at: int, reason: str) -> Change:
        change = Change(round(now_s - (self._began or now_s), 1), self.level, self.levels[at], reason)
        self.at = at
        self.changes.append(change)
        self._quiet_s = now_s
        self._deaf_until_s = now_s + self.config.settle_s
        return change

    def report(self) -> dict[str, Any]:
        """For JSON: {"level", "changes": [{"at_s", "from", "to", "reason"}]}."""
        rows = [
            {"at_s": one.at_s, "from": str(one.before), "to": str(one.after), "reason": one.reason}
            for one in self.changes
        ]
        return {"level": str(self.level), "changes": rows}
