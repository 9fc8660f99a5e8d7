"""Results of fitted models: windows of long recordings, tables, explanations."""

from skastw.analysis.occlusion import Occlusion
from skastw.analysis.tables import (
    clip_names,
    embedding_table,
    label_files,
    label_track,
    labelled_windows,
    prediction_table,
    write_table,
)

__all__ = [
    "Occlusion",
    "clip_names",
    "embedding_table",
    "label_files",
    "label_track",
    "labelled_windows",
    "prediction_table",
    "write_table",
]
