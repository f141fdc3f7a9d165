"""Damage in a stream: which pictures it reaches.

A decoder conceals what it cannot read and goes on; only the picture itself is marked, not those that look back at it.
So all from damage to the next keyframe, in the order of decoding, is lost.
"""

from __future__ import annotations


class Damage:
    """Follows packets in the order of decoding, one decoder thread, and collects the times of what is lost.

    Attributes:
        lost: times of pictures, in ticks.
    """

    def __init__(self) -> None:
        self.lost: set[int] = set()
        self.restart(None)

    def restart(self, key: int | None) -> None:
        """Decoding goes on at a keyframe's time: pictures before it look back at what was not decoded."""
        self._starts_at = key
        self._group: list[int] = []
        self._group_before: list[int] = []
        self._is_hit = self._has_key = False
        self._clean_from: int | None = None

    def packet(self, ticks: int, *, is_key: bool) -> None:
        """The next packet, before it is decoded."""
        if is_key:
            # What is shown before the keyframe and comes after it looks back as well.
            self._clean_from = ticks if self._is_hit else None
            self._group, self._group_before = [], self._group
            self._is_hit, self._has_key = False, True
        self._group.append(ticks)
        if self._is_hit or (self._clean_from is not None and ticks < self._clean_from):
            self.lost.add(ticks)

    def hit(self) -> None:
        """The last packet is damaged."""
        ticks = self._group[-1] if self._group else None
        # A recording that begins in the middle of a group is not damaged: nothing of that group can be shown.
        if ticks is None or not self._has_key or (self._starts_at is not None and ticks < self._starts_at):
            return
        self._is_hit = True
        self.lost.add(ticks)

    def marked(self, ticks: int) -> None:
        """A picture came out with the decoder's mark: its packet was damaged, which may be some packets ago."""
        if not self._has_key or (self._starts_at is not None and ticks < self._starts_at):
            return
        if ticks in self._group:
            self._is_hit = True
            self.lost.update(self._group[self._group.index(ticks) :])
        elif ticks in self._group_before:
            self.lost.update(self._group_before[self._group_before.index(ticks) :])
            self._clean_from = self._group[0]
            self.lost.update(t for t in self._group if t < self._clean_from)
        else:
            self.lost.add(ticks)
