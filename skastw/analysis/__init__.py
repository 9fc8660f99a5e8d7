"""Results of fitted models: windows of long recordings, tables, runs in parts, explanations."""

from skastw.analysis.occlusion import Occlusion
from skastw.analysis.parts import Written, write_in_parts, write_parts
from skastw.analysis.tables import (
    clip_names,
    embedding_table,
    embedding_tables,
    label_files,
    label_track,
    labelled_windows,
    prediction_table,
    prediction_tables,
    write_table,
)

__all__ = [
    "Occlusion",
    "Written",
    "clip_names",
    "embedding_table",
    "embedding_tables",
    "label_files",
    "label_track",
    "labelled_windows",
    "prediction_table",
    "prediction_tables",
    "write_in_parts",
    "write_parts",
    "write_table",
]
