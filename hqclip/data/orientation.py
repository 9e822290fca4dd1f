"""EXIF and XMP of a picture in, how the camera was held out. No other tag is looked at, so none can do harm."""

from __future__ import annotations

import re
import struct

ORIENTATION = 0x0112
AS_IT_LIES = 1
NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF's types of whole numbers
IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: bytes, xmp: bytes) -> int:
    """EXIF's number of the orientation, 1 to 8; 1 (as the picture lies) where nothing can be read that says otherwise.

    XMP counts where the EXIF has no such tag. TIFF 6.0, section 2, for the layout of EXIF.
    """
    said = _of_exif(exif)
    if said is None and (found := IN_XMP.search(xmp)):
        said = int(found[1])
    return said if said is not None and 1 <= said <= 8 else AS_IT_LIES


def _of_exif(exif: bytes) -> int | None:
    tiff = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (num_tags,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * num_tags, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", tiff, entry)
            if tag == ORIENTATION and kind in NUMBERS and count == 1:
                return int(struct.unpack_from(order + NUMBERS[kind], tiff, entry + 8)[0])
    except struct.error:  # cut off
        return None
    return None
