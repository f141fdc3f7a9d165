"""What passes for a person and is none: false people, lost people, and genuine clips called fake by one of them.

    python benchmarks/false_people.py keep DATA KEPT      # everything that is found, once; about a second a file
    python benchmarks/false_people.py sheets KEPT SHEETS  # to look at; writes SHEETS/marks.csv: put 0 where is no face
    python benchmarks/false_people.py table KEPT SHEETS/marks.csv
    python benchmarks/false_people.py alarms DATA ANSWERS [DETECTOR ...]   # genuine clips called fake, by source

DATA has ``clips/real`` and ``forgeries/clips.csv``. Of each clip the 32 frames that are judged are changed, written to
a video and searched so loosely that every track is kept; then the rule before and that of now are compared on these.
``alarms`` judges the genuine clips as they are; the answers are kept in ANSWERS and a second run goes on with them.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from measure import markdown
from scipy.stats import binomtest

from deepscan.config import FaceSettings, TrackSettings
from deepscan.detector import load_detector
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.isolation.client import probe
from deepscan.extract.people import PeopleSearch, crop_keys
from deepscan.extract.sureness import has_eyes, sureness
from deepscan.extract.video.frames import sample_frames
from deepscan.models.card import TAIL
from deepscan.types import Face, RgbImage, Sighting

FRAMES = 32
LOOSE = TrackSettings(min_confidence=0, sure_confidence=0, min_share=0)
OLD = TrackSettings()


def scaled(image: RgbImage, factor: float) -> RgbImage:
    size = [max(2, round(side * factor / 2) * 2) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4 if factor > 1 else cv2.INTER_AREA)


def on_grey(image: RgbImage) -> RgbImage:
    image = scaled(image, 448 / max(image.shape[:2]))
    out = np.full((480, 640, 3), (0x70, 0x68, 0x60), np.uint8)
    out[16 : 16 + image.shape[0], 96 : 96 + image.shape[1]] = image
    return out


H264 = ("libx264", "yuv420p", 12)
# The picture's change, then codec, pixel format and rate factor.
VARIANTS: dict[str, tuple[Callable[[RgbImage], RgbImage], tuple[str, str, int]]] = {
    "grey": (on_grey, H264),
    "2": (lambda image: scaled(image, 2), H264),
    "1.5": (lambda image: scaled(image, 1.5), H264),
    "grey_444p10": (on_grey, ("libx264", "yuv444p10le", 12)),
    "lossless": (on_grey, ("ffv1", "bgr0", 0)),
    "mirrored": (lambda image: on_grey(image[:, ::-1]), H264),
    "crf30": (on_grey, ("libx264", "yuv420p", 30)),
    "444p10": (lambda image: image, ("libx264", "yuv444p10le", 12)),
    "0.75": (lambda image: scaled(image, 0.75), H264),
    "0.5": (lambda image: scaled(image, 0.5), H264),
    "as_is": (lambda image: image, ("ffv1", "bgr0", 0)),
}
MOST_PX = 1930  # of the longer side: larger frames are scaled down before they are searched


def clips(data: Path) -> Iterator[tuple[Path, str, str]]:
    """Path, label and group of each clip; the genuine ones first, of many groups early."""
    found = [(path, "real", path.name.split("_")[0]) for path in sorted((data / "clips/real").glob("*.mp4"))]
    with (data / "forgeries/clips.csv").open(newline="") as file:
        found += [(data / "forgeries" / row["file"], row["label"], row["group"]) for row in csv.DictReader(file)]
    yield from (clip for label in ("real", "fake") for k in range(4) for clip in found[k::4] if clip[1] == label)


def changed(path: Path, name: str, out: Path) -> bool:
    """Write the changed frames of a clip, at their times; False where the variant would be too large."""
    change, (codec, pixels, crf) = VARIANTS[name]
    with av.open(str(out), "w") as container:
        stream: Any = None
        for frame in sample_frames(path, FRAMES):
            image = change(frame.image)
            image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
            if name in ("1.5", "2") and max(image.shape) > MOST_PX:
                return False
            if stream is None:
                stream, start_s = container.add_stream(codec, rate=25), frame.time_s
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt, stream.codec_context.time_base = pixels, Fraction(1, 1000)
                stream.options = {"crf": str(crf), "preset": "veryfast"} if codec == "libx264" else {}
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.time_base, picture.pts = Fraction(1, 1000), round((frame.time_s - start_s) * 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return True


def keep(data: Path, folder: Path) -> None:
    cv2.setNumThreads(1)
    detector = load_detector(isolation=None)
    finder = FaceFinder(FaceSettings(), "cpu", detector.runtime)
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(name, *clip) for name in VARIANTS for clip in clips(data)]
    todo.sort(key=lambda one: one[2] == "fake")
    for name, path, label, group in todo:
        out = folder / f"{name}__{path.stem}.npz"
        if out.exists():
            continue
        arrays: dict[str, Any] = {}
        about: dict[str, Any] = {"variant": name, "clip": path.stem, "label": label, "group": group, "tracks": []}
        with tempfile.TemporaryDirectory() as place:
            video = Path(place) / "clip.mkv"
            if not changed(path, name, video):
                continue
            media, frames = probe(video, isolation=None), sample_frames(video, FRAMES)
            search = PeopleSearch(media, frames, finder, detector.card.crop, LOOSE)
            cut = {key: crop for part in search.look() for key, crop in part.items()}
            found = search.finish()
        # What was seen best comes first: all others are side tracks.
        tracks = [*(person.track for person in found.people), *found.doubtful]
        seen = [(track, np.stack([cut[key] for key in crop_keys(track)])) for track in tracks]
        seen.sort(key=lambda one: -sum(s.face.size_px * s.face.confidence for s in one[0].sightings))
        for number, (track, crops) in enumerate(seen):
            faces = [s.face for s in track.sightings]
            some = np.unique(np.linspace(0, len(faces) - 1, 8 if number else 3).round().astype(int))
            logit = None
            if number or name == "as_is":
                logit = detector.score([crops])[0].video_logit
            about["tracks"].append({"logit": logit, "of": found.frames_sampled})
            arrays |= {
                f"boxes{number}": np.array([f.box for f in faces]),
                f"confidences{number}": np.array([f.confidence for f in faces]),
                f"landmarks{number}": np.array([f.landmarks for f in faces]),
                f"some{number}": some,
                f"crops{number}": crops[some],
            }
        part = out.with_suffix(".part.npz")
        np.savez_compressed(part, about=json.dumps(about), **arrays)
        part.replace(out)


class Kept:
    """A track that was kept, and what both rules say of it."""

    def __init__(self, about: dict[str, Any], number: int, arrays: Any) -> None:
        self.about, self.number = about, number
        self.name = f"{about['variant']}__{about['clip']}__{number}"
        self.logit, of = about["tracks"][number]["logit"], about["tracks"][number]["of"]
        self.crops, self.some = arrays[f"crops{number}"], arrays[f"some{number}"]
        parts = (arrays[f"{part}{number}"] for part in ("boxes", "confidences", "landmarks"))
        self.faces = [Face(tuple(b), float(c), p) for b, c, p in zip(*parts, strict=True)]
        self.confidence = np.array([f.confidence for f in self.faces])
        self.px, self.n = float(np.median([f.size_px for f in self.faces])), len(self.faces)
        best, often = self.confidence.max(), self.n >= OLD.min_share * of
        self.old = bool(best >= OLD.sure_confidence or (often and best >= OLD.min_confidence))
        eyes = np.mean([has_eyes(self._look(i), self.faces[at]) for i, at in enumerate(self.some)])
        sightings = [Sighting(i, i / 4, face) for i, face in enumerate(self.faces)]
        self.new = sureness(sightings, round(float(eyes) * self.n), of) if self.old else "doubtful"

    def _look(self, i: int) -> Any:
        """The box's pixels in a crop, which was cut as the default detector's are: 0.85 of the longer side."""
        face, crop = self.faces[self.some[i]], self.crops[i]
        x1, y1, x2, y2 = face.box
        side = 0.85 * max(face.width_px, face.height_px)
        left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2 + 0.06 * face.height_px
        k = crop.shape[0] / side
        wide, high = 16 / (x2 - x1), 16 / (y2 - y1)
        to_box = np.array([[wide / k, 0, wide * (left - x1)], [0, high / k, high * (top - y1)]])
        blur = max(1, round((x2 - x1) * k / 16))
        look = cv2.warpAffine(cv2.blur(crop, (blur, blur)), to_box, (16, 16), borderMode=cv2.BORDER_REPLICATE)
        look = look.astype(np.float32) - look.mean()
        return np.asarray(look / (look.std() + 1e-3), np.float32)


def read(folder: Path) -> Iterator[tuple[dict[str, Any], list[Kept]]]:
    for path in sorted(folder.glob("*__*.npz")):
        if ".part" in path.name:
            continue
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            yield about, [Kept(about, number, arrays) for number in range(len(about["tracks"]))]


def sheets(folder: Path, out: Path) -> None:
    """Each side track that either rule takes for a person, or nearly, four crops a row."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    with (out / "marks.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("track", "face"))
        for one in (track for _, tracks in read(folder) for track in tracks[1:]):
            some = np.unique(np.linspace(0, len(one.some) - 1, 4).round().astype(int))
            row = np.hstack([cv2.resize(one.crops[i], (128, 128)) for i in some])
            row = np.pad(row, ((18, 0), (0, 512 - row.shape[1]), (0, 0)))
            told = f"{one.name[-46:]} {one.n}x {one.confidence.mean():.3f} {one.px:.0f}px {one.new}"
            cv2.putText(row, told, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1)
            rows.append(row)
            writer.writerow((one.name, 1))
    for start in range(0, len(rows), 24):
        page = rows[start : start + 24]
        page += [np.zeros_like(rows[0])] * (-len(page) % 3)
        grid = np.vstack([np.hstack(page[i : i + 3]) for i in range(0, len(page), 3)])
        cv2.imwrite(str(out / f"sheet{start // 24:02d}.png"), grid[..., ::-1])
    print(f"{len(rows)} side tracks")


def table(folder: Path, marks: Path) -> None:
    """Both rules beside each other, by variant, and of half of the groups and all of them."""
    with marks.open(newline="") as file:
        no_face = {row["track"] for row in csv.DictReader(file) if row["face"] == "0"}
    calibration = load_detector(isolation=None).card.calibration
    high = math.log(calibration.uncertain_high / (1 - calibration.uncertain_high))
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for about, tracks in read(folder):
        half = "half the groups" if zlib.crc32(about["group"].encode()) % 2 else "the other half"
        # Who decides, and the limit among so many: as in deepscan.verdict, where nobody else looks fake.
        deciding = [one for one in tracks if one.new == "sure"] or [one for one in tracks if one.new == "unsure"]
        raised = high + (calibration.tail or TAIL) * math.log(max(1, len(deciding)))
        count: Counter[str] = Counter(clips=1, real=about["label"] == "real")
        for one in tracks:
            face, judged = one.name not in no_face, one.new != "doubtful"
            log_odds = -math.inf if one.logit is None else one.logit * calibration.scale + calibration.bias
            side = one.number > 0 and about["label"] == "real"
            count += Counter(
                {
                    "false before": one.old and not face,
                    "false after": judged and not face,
                    "lost": one.old and face and not judged,
                    "faces": one.old * face * one.n * (one.px >= 40),
                    "faces after": judged * face * one.n * (one.px >= 40),
                    "fake before": one.old and side and log_odds >= high,
                    "fake after": one in deciding and side and log_odds >= raised,
                }
            )
        for key in ("fake before", "fake after"):
            count[key] = min(1, count[key])
        for name in (about["variant"], half, "all"):
            sums[name] += count
    heads = ["Clips", "number", "false people per 1,000, before", "after", "people lost per 1,000"]
    heads += ["recall of faces of 40 px", "genuine clips", "called fake by a side track, before", "after"]
    rows = []
    for name in (*(v for v in VARIANTS if v in sums), "half the groups", "the other half", "all"):
        c = sums[name]
        per = [f"{1000 * c[key] / max(1, c['clips']):.1f}" for key in ("false before", "false after", "lost")]
        recall = f"{100 * c['faces after'] / max(1, c['faces']):.2f} %"
        cells = (name, c["clips"], *per, recall, c["real"], c["fake before"], c["fake after"])
        rows.append([str(cell) for cell in cells])
    print(markdown(heads, rows))


SMALLEST_SOURCE = 10  # clips; of fewer no share is worth a row


def genuine(data: Path) -> dict[Path, str]:
    """Every genuine clip and the source that it comes from."""
    found = dict.fromkeys(sorted((data / "clips/real").glob("*.mp4")), "talking heads")
    layouts = data / "clips/layouts"
    found |= dict.fromkeys(sorted(layouts.glob("ffpp/original_sequences/**/*.mp4")), "FaceForensics++ originals")
    for metadata in sorted(layouts.glob("dfdc/*/metadata.json")):
        labels = json.loads(metadata.read_text())
        real = (metadata.parent / name for name, about in labels.items() if about["label"] == "REAL")
        found |= {path: "DFDC originals" for path in real if path.exists()}
    with (data / "forgeries/clips.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "real"]
    return found | {data / "forgeries" / row["file"]: row["source"] for row in rows}


def alarms(data: Path, answers: Path, detectors: list[str]) -> None:
    """Genuine clips that each detector calls fake, by source, with Wilson's interval of 95 %."""
    answers.mkdir(parents=True, exist_ok=True)
    clips = genuine(data)
    counts: dict[str, dict[str, Counter[str]]] = {}
    for name in detectors or ["resnet18", "default"]:
        kept = answers / f"{name}.jsonl"
        lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
        verdicts = {line["path"]: line["verdict"] for line in lines}
        with kept.open("a") as file:
            for result in load_detector(name).predict_files(path for path in clips if str(path) not in verdicts):
                verdicts[result.path] = str(result.verdict)
                file.write(json.dumps(result.to_dict()) + "\n")
                file.flush()
        n_clips = Counter(clips.values())
        counts[name] = defaultdict(Counter)
        for path, source in clips.items():
            shown = source if n_clips[source] >= SMALLEST_SOURCE else f"sources of under {SMALLEST_SOURCE} clips"
            for row in (shown, "all"):
                counts[name][row].update(("clips", verdicts[str(path)]))
    heads = ["Source", "clips", *(f"{name}: {what}" for name in counts for what in ("fake", "real", "share fake"))]
    sources = sorted(next(iter(counts.values())), key=lambda one: (one == "all", one))
    rows = []
    for source in sources:
        cells = [source, str(next(iter(counts.values()))[source]["clips"])]
        for count in (by_source[source] for by_source in counts.values()):
            test = binomtest(count["fake"], count["clips"])
            low, high = test.proportion_ci(method="wilson")
            share = f"{100 * test.statistic:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            cells += [str(count["fake"]), str(count["real"]), share]
        rows.append(cells)
    print(markdown(heads, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, names in ((keep, ("DATA", "KEPT")), (sheets, ("KEPT", "SHEETS")), (table, ("KEPT", "MARKS"))):
        command = commands.add_parser(function.__name__)
        for name in names:
            command.add_argument(name.lower(), type=Path, metavar=name)
        command.set_defaults(run=lambda given, f=function, n=names: f(*(getattr(given, name.lower()) for name in n)))
    command = commands.add_parser("alarms")
    command.add_argument("data", type=Path, metavar="DATA")
    command.add_argument("answers", type=Path, metavar="ANSWERS")
    command.add_argument("detectors", nargs="*", metavar="DETECTOR")
    command.set_defaults(run=lambda given: alarms(given.data, given.answers, given.detectors))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
