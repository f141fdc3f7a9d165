"""Evidence as pages for a person: self-contained HTML that loads nothing, with the JSON report beside it."""

from deepscan.report.html.evidence import (
    FramePicture,
    Material,
    PersonMaterial,
    Picture,
    from_file,
    make_material,
    pictures_to_keep,
    with_heat,
)
from deepscan.report.html.render import card_style, first_screen
from deepscan.report.html.write import OURS, Written, check_name, check_target, write_pages

__all__ = [
    "OURS",
    "FramePicture",
    "Material",
    "PersonMaterial",
    "Picture",
    "Written",
    "card_style",
    "check_name",
    "check_target",
    "first_screen",
    "from_file",
    "make_material",
    "pictures_to_keep",
    "with_heat",
    "write_pages",
]
