"""MINDS-14: requests of callers to their bank, in fourteen languages, from the Hugging Face Hub."""

import io
from pathlib import Path
from typing import Any

from skastw.core.optional import import_optional
from skastw.datasets._download import DamagedArchiveError
from skastw.datasets._public_set import Archive, Part, PublicSet, add_audio, audio_files, read_table
from skastw.errors import FetchError

_REPOSITORY, _REVISION = "PolyAI/minds14", "40ce77cb32a384e4d50a568e1ec39ac804019d33"
_LANGUAGES = (
    *("cs-CZ", "de-DE", "en-AU", "en-GB", "en-US", "es-ES", "fr-FR"),
    *("it-IT", "ko-KR", "nl-NL", "pl-PL", "pt-PT", "ru-RU", "zh-CN"),
)
#: Classes, in the order of the authors' numbers.
_INTENTS = (
    *("abroad", "address", "app_error", "atm_limit", "balance", "business_loan", "card_issues", "cash_deposit"),
    *("direct_debit", "freeze", "high_value_payment", "joint_account", "latest_transactions", "pay_bill"),
)
_TABLE = "minds14-{part}.csv"


def _url(language: str) -> str:
    """Return the address of a language: a Parquet file, which contains the recordings."""
    import_optional("pyarrow", extra="parquet", purpose="Reading MINDS-14")
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise FetchError("Cannot download MINDS-14 while HF_HUB_OFFLINE is set. Unset it, or pass data_home=.")
    file = f"{language}/train-00000-of-00001.parquet"
    return hf_hub_url(_REPOSITORY, file, repo_type="dataset", revision=_REVISION)


def _convert(path: Path, folder: Path, language: str) -> None:
    """Write the recordings of a Parquet file as WAV files, and a table of them."""
    import pandas as pd

    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
        recordings = [bytes(audio["bytes"]) for audio in table["audio"]]
        frame = table[["transcription", "english_transcription"]].astype(str)
        frame.insert(0, "target", [_INTENTS[number] for number in table["intent_class"]])
    except Exception as error:
        raise DamagedArchiveError(f"{path.name} of {_REPOSITORY} is not the table of MINDS-14 ({error}).") from error

    frame.index = [f"audio/{number:04d}" for number in range(len(frame))]  # the names in the table are not trusted
    (folder / "audio").mkdir()
    for name, recording in zip(frame.index, recordings, strict=True):
        (folder / f"{name}.wav").write_bytes(recording)
    frame.to_csv(folder / _TABLE.format(part=language), index_label="audio", encoding="utf-8")


def _read(folder: Path, part: str) -> Any:
    path = folder / _TABLE.format(part=part)
    table = read_table(path, "MINDS-14", lambda table: table.set_index("audio"), dtype=str, keep_default_na=False)
    return add_audio(table, audio_files(folder, ["audio"]), folder, f"MINDS-14 ({part})")


MINDS14 = PublicSet(
    name="minds14",
    title="MINDS-14, {part}",
    read=_read,
    marker=_TABLE,
    archive=Archive(_url, convert=_convert),
    part=Part("language", _LANGUAGES, default="en-US", separate=True),
    classes=_INTENTS,
    about="""
Calls to a bank in fourteen languages, 8 kHz, mono: callers say what they want, one of fourteen intents. Each
language is a set of its own. There are no official folds, and the speakers are not known, so there are no ``groups``:
scores of any split may be of speakers heard in training.
""",
    licence="CC BY 4.0.",
    citation="""
D. Gerz, P.-H. Su, R. Kusztos, A. Mondal, M. Lis, E. Singhal, N. Mrksic, T.-H. Wen, I. Vulic. Multilingual and
Cross-Lingual Intent Detection from Spoken Data. EMNLP 2021. https://arxiv.org/abs/2104.08524
""",
)
