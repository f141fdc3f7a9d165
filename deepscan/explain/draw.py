"""Boxes and words on pictures. A verdict is always a word; its colour only repeats it.

The colours are those of Okabe and Ito, which are told apart with any colour vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from deepscan.types import Box, RgbImage, VerdictLabel

Rgb = tuple[int, int, int]

COLOURS: dict[VerdictLabel, Rgb] = {
    VerdictLabel.FAKE: (213, 94, 0),
    VerdictLabel.REAL: (0, 114, 178),
    VerdictLabel.UNCERTAIN: (240, 228, 66),
    VerdictLabel.NOT_APPLICABLE: (110, 110, 110),
    VerdictLabel.ERROR: (110, 110, 110),
}
WORDS: dict[VerdictLabel, str] = {
    VerdictLabel.FAKE: "FAKE",
    VerdictLabel.REAL: "real",
    VerdictLabel.UNCERTAIN: "uncertain",
    VerdictLabel.NOT_APPLICABLE: "no answer",
    VerdictLabel.ERROR: "error",
}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 30.0  # height of a line of the font at scale 1
_TEXT_SHARE, _SMALLEST_TEXT_PX = 0.045, 13.0  # of the picture's shorter side
_SMALLEST_SCALE = 0.3
_LEAST_SCALE = 0.02  # of a banner: a picture in which it does not fit has a few pixels
BANNER_SHARE = 0.05  # of the picture's area


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes that suit a picture: scale of the font, width of lines and space around words in pixels."""

    scale: float
    line_px: int
    pad_px: int


def style_for(image: RgbImage) -> Style:
    """Sizes for RGB ``uint8 [H, W, 3]``."""
    shorter = min(image.shape[:2])
    scale = max(_SMALLEST_TEXT_PX, _TEXT_SHARE * shorter) / _FONT_PX
    return Style(scale, max(2, round(shorter / 240)), max(2, round(6 * scale)))


def draw_box(image: RgbImage, box: Box, colour: Rgb, style: Style) -> None:
    """Draw a box into an image, with a dark edge outside so that it is seen on any ground."""
    x1, y1, x2, y2 = (round(v) for v in box)
    edge = style.line_px
    cv2.rectangle(image, (x1 - edge, y1 - edge), (x2 + edge, y2 + edge), (0, 0, 0), edge, cv2.LINE_AA)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, edge, cv2.LINE_AA)


def draw_label(image: RgbImage, box: Box, lines: list[str], colour: Rgb, style: Style) -> None:
    """Write lines above a box, or in it where there is no room above."""
    height, _, _ = _block(lines, style, image.shape[1])
    top = round(box[1]) - 2 * style.line_px - height
    draw_lines(image, (round(box[0]), top if top >= 0 else round(box[1]) + style.line_px), lines, colour, style)


def draw_banner(image: RgbImage, texts: Sequence[str], colour: Rgb, style: Style) -> None:
    """Write a line at the bottom left, on at most :data:`BANNER_SHARE` of the picture.

    Args:
        image: RGB ``uint8 [H, W, 3]``, changed.
        texts: from long to short: the first that fits is taken, and the last is made smaller until it does.
        colour: of the ground.
        style: sizes.
    """

    def fits(text: str, style: Style) -> bool:
        height, width, _ = _block([text], style, image.shape[1])
        return height * width <= BANNER_SHARE * image.shape[0] * image.shape[1]

    text = next((text for text in texts if fits(text, style)), texts[-1])
    while not fits(text, style) and style.scale > _LEAST_SCALE:
        style = Style(0.9 * style.scale, style.line_px, style.pad_px * 9 // 10)
    if fits(text, style):
        draw_lines(image, (0, -1), [text], colour, style)


def draw_lines(image: RgbImage, position: tuple[int, int], lines: list[str], colour: Rgb, style: Style) -> None:
    """Write lines on a filled ground, moved into the picture where they would leave it.

    Args:
        image: RGB ``uint8 [H, W, 3]``, changed.
        position: x and y of the top left corner in pixels; a negative y counts from the bottom.
        lines: ASCII; what the font does not have is shown as a question mark.
        colour: of the ground; the words are black or white, whichever is read better on it.
        style: sizes; words that are too wide are made smaller, then cut.
    """
    height, width, scale = _block(lines, style, image.shape[1])
    x = max(0, min(position[0], image.shape[1] - width))
    y = image.shape[0] - height + 1 + position[1] if position[1] < 0 else position[1]
    y = max(0, min(y, image.shape[0] - height))
    cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
    ink = (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else (255, 255, 255)
    thickness = max(1, round(1.6 * scale))
    for number, line in enumerate(lines):
        base = y + style.pad_px + round((number + 0.78) * _FONT_PX * scale)
        text = _fitting(line, scale, image.shape[1] - 2 * style.pad_px)
        cv2.putText(image, text, (x + style.pad_px, base), _FONT, scale, ink, thickness, cv2.LINE_AA)


def _block(lines: list[str], style: Style, room_px: int) -> tuple[int, int, float]:
    """Height and width in pixels of lines on their ground, and the scale at which they fit."""
    widest = max((_width(line, style.scale) for line in lines), default=0)
    room = max(1, room_px - 2 * style.pad_px)
    scale = style.scale if widest <= room else max(min(_SMALLEST_SCALE, style.scale), style.scale * room / widest)
    width = max((_width(line, scale) for line in lines), default=0)
    height = round(len(lines) * _FONT_PX * scale) + 2 * style.pad_px
    return height, min(room_px, width + 2 * style.pad_px), scale


def _fitting(line: str, scale: float, room_px: int) -> str:
    while len(line) > 1 and _width(line, scale) > room_px:
        line = line[:-1]
    return line


def _width(line: str, scale: float) -> int:
    (width, _), _ = cv2.getTextSize(line, _FONT, scale, max(1, round(1.6 * scale)))
    return int(width)
