"""Annotations of people's tools, read and written: Raven, Audacity, DCASE, RTTM, Praat, CSV, ...

`FORMATS` names them. What each holds comes back bit for bit.
"""

from sonoformer.data.annotations.columns import EventColumns
from sonoformer.data.annotations.formats import FORMATS
from sonoformer.data.annotations.reading import (
    annotated,
    facts_of,
    read_annotations,
    read_class_map,
    read_marks,
)
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.writing import write_annotations

__all__ = [
    "FORMATS",
    "EventColumns",
    "Recording",
    "annotated",
    "facts_of",
    "read_annotations",
    "read_class_map",
    "read_marks",
    "write_annotations",
]
