"""Evidence as pages for a person: self-contained HTML that loads nothing, with the JSON report beside it."""

from deepscan.page.material import FramePicture, Material, PersonMaterial, Picture, from_explanation, from_file
from deepscan.page.write import OURS, Written, check_name, check_target, write_pages

__all__ = [
    "OURS",
    "FramePicture",
    "Material",
    "PersonMaterial",
    "Picture",
    "Written",
    "check_name",
    "check_target",
    "from_explanation",
    "from_file",
    "write_pages",
]
