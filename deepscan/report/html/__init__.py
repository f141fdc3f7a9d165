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
from deepscan.report.html.write import OURS, Written, check_name, check_target, write_pages

__all__ = [
    "OURS",
    "FramePicture",
    "Material",
    "PersonMaterial",
    "Picture",
    "Written",
    "check_name",
    "check_target",
    "from_file",
    "make_material",
    "pictures_to_keep",
    "with_heat",
    "write_pages",
]
