"""Find the RAVDESS recordings of four emotions under a folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

#: Third field of a file name such as 03-01-05-02-01-01-12.flac.
EMOTIONS = {"01": "neutral", "02": "calm", "05": "angry", "08": "surprised"}


def find_clips(data_dir: Path) -> pd.DataFrame:
    """Return a table with the columns audio (path), emotion and actor (1 to 24)."""
    rows = []
    for path in sorted(data_dir.glob("Actor_*/03-01-*")):
        fields = path.stem.split("-")
        if fields[2] in EMOTIONS:
            rows.append((str(path), EMOTIONS[fields[2]], int(fields[6])))
    if not rows:
        raise SystemExit(f"No RAVDESS recordings (Actor_01/03-01-....wav or .flac) under {str(data_dir)!r}.")
    return pd.DataFrame(rows, columns=["audio", "emotion", "actor"])
