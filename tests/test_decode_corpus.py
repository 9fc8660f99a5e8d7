"""Files of many programs decode to what FFmpeg's program decodes, or are refused for a reason."""

import pytest

import decode_corpus

pytest.importorskip("av")


@pytest.mark.slow
def test_files_of_many_programs_decode_as_ffmpeg_decodes_them():
    if missing := decode_corpus.missing_programs():
        pytest.skip(f"these programs are not installed: {', '.join(missing)}")
    outcomes = list(decode_corpus.outcomes())
    assert [outcome for outcome in outcomes if outcome.wrong] == []
    whole = [outcome for outcome in outcomes if ", cut at" not in outcome.name]
    assert sum(outcome.verdict == "decoded" for outcome in whole) > 200
