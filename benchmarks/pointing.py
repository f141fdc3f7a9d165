"""Whether heat maps point at what was manipulated: a pointing game on faces blended into themselves.

    python benchmarks/pointing.py [FACES...] [--model NAME_OR_FOLDER] [--n 50] [--seed 0] [--json FILE]

FACES are images, folders or tar files of real faces; without them the NASA portrait of scikit-image is taken, changed
a little for every round. Each face is blended into itself (``deepscan/train/self_blend.py``), which gives the mask of
what was changed, cut by the model's crop rule, and explained (``deepscan/explain/gradcam.py``). It prints

- the pointing game: the share of faces whose hottest pixel lies inside the mask, with its 95 % Wilson interval, and
  the chance level, which is the mean share of the crop that the mask covers;
- the share of all heat that lies inside the mask, against the same chance level;
- two controls: the same masks with the heat of the faces before blending, and with the crop's centre in place of the
  hottest pixel. A mask covers the middle of a face, so whatever looks there scores above chance;
- the pointing game on the rise of the map from the face before to the face after blending, which no habit of looking
  at the middle can win: whether the map answers where the picture was changed.

Exit code 1 unless the whole interval of the pointing game, on the heat and on its rise, lies above chance.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from deepscan.config import FaceSettings, PredictSettings
from deepscan.detector import Detector, load_detector
from deepscan.errors import DeepscanError, MediaError
from deepscan.explain.gradcam import signed_maps
from deepscan.extract.crops import crop_square, face_square
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.file_kinds import IMAGE_SUFFIXES
from deepscan.extract.video.frames import sample_frames
from deepscan.files import write_atomically
from deepscan.models.scorer import torch_scorer
from deepscan.train.self_blend import blend_mask, draw_blend, self_blend
from deepscan.types import RgbImage

SCHEMA = "deepscan.benchmark.pointing/1"
_MASK_LEVEL = 0.5  # of the soft mask's peak: what counts as inside


@dataclass(frozen=True, slots=True)
class Pair:
    """One face's crops before and after blending, and what was changed.

    Attributes:
        real, blended: RGB ``uint8 [S, S, 3]``.
        mask: bool ``[S, S]``, true inside.
    """

    real: RgbImage
    blended: RgbImage
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hits:
    """A share of faces with its 95 % Wilson interval."""

    hits: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured.

    Attributes:
        pointing: hottest pixel inside the mask.
        chance: mean share of the crop's area that lies inside.
        heat_inside: mean share of the heat that lies inside.
        above_area: faces whose heat inside is a larger share than the mask's area.
        rise: the pointing game with the place where blending made the map rise most.
        unblended: the pointing game with the heat of the face before blending.
        centre: the pointing game with the crop's centre as the hottest pixel.
        called_fake: blended faces that the model gives a probability of at least 0.5.
        pointing_called_fake: the pointing game on these alone.
    """

    pointing: Hits
    chance: float
    heat_inside: float
    above_area: Hits
    rise: Hits
    unblended: Hits
    centre: Hits
    called_fake: Hits
    pointing_called_fake: Hits


def images(paths: Sequence[Path]) -> Iterator[RgbImage]:
    """RGB images of files, folders and tars, in the order of their names; what cannot be read is left out."""
    for path in paths:
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in sorted(archive.getmembers(), key=lambda m: m.name):
                    handle = archive.extractfile(member) if Path(member.name).suffix.lower() in IMAGE_SUFFIXES else None
                    image = None if handle is None else cv2.imdecode(np.frombuffer(handle.read(), np.uint8), 1)
                    if image is not None:
                        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix.lower() in IMAGE_SUFFIXES:
                try:
                    yield from (frame.image for frame in sample_frames(file, 1))
                except MediaError as error:
                    print(error, file=sys.stderr)


def made_faces(seed: int) -> Iterator[RgbImage]:
    """Without end: the portrait, mirrored or not, in other light and at another place and size."""
    from skimage.data import astronaut

    rng = np.random.default_rng(seed)
    portrait = np.asarray(astronaut())[:300, 60:390]
    while True:
        image = portrait[:, ::-1] if rng.random() < 0.5 else portrait
        scale, turn = rng.uniform(0.8, 1.3), rng.uniform(-6, 6)
        matrix = cv2.getRotationMatrix2D((165.0, 115.0), turn, scale)
        image = cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
        yield np.clip(image * rng.uniform(0.8, 1.15, 3), 0, 255).astype(np.uint8)


def pairs(faces: Iterator[RgbImage], detector: Detector, seed: int) -> Iterator[Pair]:
    """Blend the largest face of every image, by parameters that depend on the seed and its number alone."""
    finder = FaceFinder(FaceSettings(detect_side_px=480), detector.device)
    rule = detector.card.crop
    for number, image in enumerate(faces):
        (faces_found,) = finder.detect([image], close_up=True)
        if not faces_found:
            continue
        parameters = draw_blend(np.random.default_rng([seed, number]))
        square = face_square(faces_found[0], image.shape, rule)
        mask = blend_mask(faces_found[0].landmarks, image.shape[:2], parameters)
        grey = np.repeat(np.rint(mask * 255).astype(np.uint8)[..., None], 3, axis=2)
        inside = crop_square(grey, square, rule.size_px)[..., 0] >= 255 * _MASK_LEVEL
        blended = self_blend(image, faces_found[0].landmarks, parameters)
        if inside.any() and not inside.all():
            yield Pair(crop_square(image, square, rule.size_px), crop_square(blended, square, rule.size_px), inside)


def measure(pairs: Sequence[Pair], detector: Detector) -> Figures:
    """Play the game on blended faces.

    Raises:
        MediaError: there are none.
    """
    if not pairs:
        raise MediaError("No face was found", "", "Give images, folders or tars of portraits.", reason="no_face")
    masks = np.stack([pair.mask for pair in pairs])
    blended = np.stack([pair.blended for pair in pairs])
    after, _ = signed_maps(detector.networks, blended)
    before, _ = signed_maps(detector.networks, np.stack([pair.real for pair in pairs]))
    scorer = torch_scorer(detector.networks, device=detector.device, tta=False)
    calibration = detector.card.calibration
    logits = np.concatenate([score.frame_logits for score in scorer.score([crop[None] for crop in blended])])
    fake = logits * calibration.frame_scale + calibration.frame_bias >= 0
    hit = pointing(after, masks)
    areas = masks.mean(axis=(1, 2))
    inside = np.array([heat_share(signed, mask) for signed, mask in zip(after, masks, strict=True)])
    middle = masks.shape[1] // 2
    return Figures(
        pointing=hits(hit),
        chance=float(areas.mean()),
        heat_inside=float(inside.mean()),
        above_area=hits(inside > areas),
        rise=hits(pointing(after - before, masks)),
        unblended=hits(pointing(before, masks)),
        centre=hits(masks[:, middle, middle]),
        called_fake=hits(fake),
        pointing_called_fake=hits(hit[fake]),
    )


def pointing(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each map's hottest place lies inside its mask, bool ``[n]``; a map without any heat misses."""
    return np.array([bool(m.max() > 0 and mask[hottest(m)]) for m, mask in zip(maps, masks, strict=True)])


def hottest(heat: NDArray[np.float32]) -> tuple[int, int]:
    """Row and column of the largest value; of a plateau, as maps have at their edges, the middle."""
    rows, columns = np.nonzero(heat >= heat.max() - 1e-5 * abs(float(heat.max())))
    return round(float(rows.mean())), round(float(columns.mean()))


def heat_share(signed: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Share of the heat (the positive part) inside the mask; 0 where there is none."""
    heat = signed.clip(min=0)
    total = float(heat.sum())
    return float(heat[mask].sum()) / total if total > 0 else 0.0


def hits(flags: NDArray[np.bool_]) -> Hits:
    """Count, share and Wilson's interval; NaN for the share of nothing."""
    n, k = len(flags), int(flags.sum())
    if not n:
        return Hits(0, 0, math.nan, 0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return Hits(k, n, k / n, float(interval.low), float(interval.high))


def summary(figures: Figures, model: str) -> str:
    """The figures for a person."""
    rows: list[tuple[str, Hits | float]] = [
        ("hottest pixel inside the mask", figures.pointing),
        ("  chance: share of the area", figures.chance),
        ("  where the map rose", figures.rise),
        ("  control: before blending", figures.unblended),
        ("  control: centre of the crop", figures.centre),
        ("  of faces called fake", figures.pointing_called_fake),
        ("heat inside the mask", figures.heat_inside),
        ("  faces above their mask's area", figures.above_area),
        ("blended faces called fake", figures.called_fake),
    ]
    lines = [f"model {model}, {figures.pointing.n} self-blended faces"]
    for name, value in rows:
        if isinstance(value, Hits):
            interval = f"  [{value.low:.3f}, {value.high:.3f}]  {value.hits} of {value.n}"
            lines.append(f"{name:34}{value.share:6.3f}{interval}" if value.n else f"{name:34}     -")
        else:
            lines.append(f"{name:34}{value:6.3f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", nargs="*", type=Path, metavar="FACES")
    parser.add_argument("--model", default="default", help="name or folder of a detector")
    parser.add_argument("--n", type=int, default=50, help="faces to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        missing = [path for path in args.faces if not path.exists()]
        if missing:
            raise MediaError(f"{missing[0]}: not found", "", "Check the path.", reason="not_found")
        detector = load_detector(args.model, PredictSettings(device=args.device))
        source = images(args.faces) if args.faces else made_faces(args.seed)
        figures = measure(list(islice(pairs(source, detector, args.seed), args.n)), detector)
        print(summary(figures, detector.card.name))
        if args.json is not None:
            facts = {"model": detector.card.name, "sha256": detector.card.weights_sha256, "seed": args.seed}
            content = {"schema": SCHEMA, **facts, **asdict(figures)}
            write_atomically(args.json, (json.dumps(content, indent=1) + "\n").encode())
    except DeepscanError as error:
        print(error, file=sys.stderr)
        return 3
    return 0 if min(figures.pointing.low, figures.rise.low) > figures.chance else 1


if __name__ == "__main__":
    sys.exit(main())
