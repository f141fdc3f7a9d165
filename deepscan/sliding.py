"""What a window that slides over a stream saw before: its pictures are searched once, and its crops scored once.

Both remember what the last two calls were about, which is the window; memory does not grow with the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepscan.extract.faces.detect import FaceFinder
from deepscan.models.scorer import Features, Scorer
from deepscan.types import Face, RgbImage


class RememberingFinder(FaceFinder):
    """Finds the faces of each picture once; every one is looked at in full.

    Args:
        finder: that finds them.
        most: pictures that are remembered.
    """

    def __init__(self, finder: FaceFinder, most: int) -> None:
        self.settings, self.cascade = finder.settings, finder.cascade
        self._most = most
        self._known: dict[int, tuple[RgbImage, list[Face]]] = {}  # by identity, as long as the picture lives here

    def detect(self, images: Sequence[RgbImage], *, close_up: bool = False) -> list[list[Face]]:
        """As :meth:`FaceFinder.detect`."""
        new = [image for image in images if id(image) not in self._known]
        for image, faces in zip(new, super().detect(new, close_up=close_up) if new else [], strict=True):
            self._known[id(image)] = image, faces
        found = [self._known[id(image)][1] for image in images]
        while len(self._known) > max(self._most, len(images)):
            del self._known[next(iter(self._known))]
        return found

    def follow(self, images: Sequence[RgbImage], before: Sequence[Sequence[Face]]) -> list[list[Face] | None]:
        """As :meth:`detect`: what is found must not depend on where the window begins."""
        del before
        return list(self.detect(images))


class RememberingScorer(Scorer):
    """Computes the features of each crop once.

    Args:
        scorer: that computes them.
        most: crops that are remembered.
    """

    def __init__(self, scorer: Scorer, most: int) -> None:
        vars(self).update(vars(scorer))
        self._scorer, self._most = scorer, most
        self._known: dict[bytes, Features] = {}

    def features(self, crops: NDArray[np.uint8]) -> list[Features]:
        """As :meth:`Scorer.features`."""
        keys = [hashlib.blake2b(np.ascontiguousarray(crop).data, digest_size=16).digest() for crop in crops]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            self._known.update(zip([keys[i] for i in new], self._scorer.features(crops[new]), strict=True))
        features = [self._known[key] for key in keys]
        while len(self._known) > max(self._most, len(keys)):
            del self._known[next(iter(self._known))]
        return features
