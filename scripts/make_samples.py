"""Make the clips in data/samples/ from scikit-image's portrait of the astronaut Eileen Collins (NASA, public domain).

    python scripts/make_samples.py [data/samples]

A virtual hand-held camera moves over the still, the light drifts, H.264 compresses: `real.mp4`. The same camera with
the face blended into itself anew in every frame: `self_blended.mp4`. A part of the picture without a face:
`no_face.mp4`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from skimage.data import astronaut

from deepscan.extract.faces.detect import FaceFinder
from deepscan.train.self_blend import draw_blend, self_blend
from deepscan.types import Landmarks, RgbImage

FPS, SECONDS, SIDE_PX, CRF = 25, 4, 320, 21
BLEND_SEED = 33


def camera(time_s: float, centre: tuple[float, float], side: float) -> np.ndarray:
    """Affine map ``[2, 3]`` from the still to the frame: sway, breathing zoom and a little roll."""
    zoom = SIDE_PX / (side * (1 + 0.06 * np.sin(0.9 * time_s)))
    x = centre[0] + 10 * np.sin(1.3 * time_s) + 2 * np.sin(7.1 * time_s)
    y = centre[1] + 6 * np.cos(1.7 * time_s) + 2 * np.cos(6.3 * time_s)
    matrix = cv2.getRotationMatrix2D((x, y), 3 * np.sin(0.8 * time_s), zoom)
    matrix[:, 2] += SIDE_PX / 2 - np.array([x, y])
    return matrix


def frames(still: RgbImage, centre: tuple[float, float], side: float) -> Iterator[tuple[RgbImage, np.ndarray]]:
    """Frames of the virtual camera with drifting light and sensor noise, and each frame's camera map."""
    rng = np.random.default_rng(7)
    for index in range(FPS * SECONDS):
        time_s = index / FPS
        matrix = camera(time_s, centre, side)
        view = cv2.warpAffine(still, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        light = 0.92 + 0.1 * np.sin(1.1 * time_s) + np.linspace(-0.06, 0.06, SIDE_PX)[None, :, None] * np.cos(time_s)
        noisy = view * light + rng.normal(0, 3.5, view.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8), matrix


def write(path: Path, images: Iterator[RgbImage]) -> None:
    """Encode RGB frames as H.264 in mp4."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": str(CRF), "preset": "slow"})
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))


def blended(shots: Iterator[tuple[RgbImage, np.ndarray]], landmarks: Landmarks) -> Iterator[RgbImage]:
    """Every frame with its face blended into itself; parameters are the clip's, moved a little in every frame."""
    rng = np.random.default_rng(BLEND_SEED)
    parameters = draw_blend(rng)
    for image, matrix in shots:
        moved = (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        yield self_blend(image, moved, parameters.jittered(rng))


def main() -> None:
    """Write the three clips."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/samples")
    folder.mkdir(parents=True, exist_ok=True)
    still = astronaut()
    face = FaceFinder().detect([still])[0][0]
    centre = ((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2 + 25)
    side = 2.7 * face.height_px
    write(folder / "real.mp4", (image for image, _ in frames(still, centre, side)))
    write(folder / "self_blended.mp4", blended(frames(still, centre, side), face.landmarks))
    write(folder / "no_face.mp4", (image for image, _ in frames(still, (410.0, 330.0), 190.0)))
    for path in sorted(folder.glob("*.mp4")):
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
