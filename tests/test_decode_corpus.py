"""Files of many programs decode to what FFmpeg's program decodes, or are refused for a reason."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")


def _corpus():
    spec = importlib.util.spec_from_file_location("decode_corpus", Path(__file__).with_name("decode_corpus.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_files_of_many_programs_decode_as_ffmpeg_decodes_them():
    corpus = _corpus()
    if missing := corpus.missing_programs():
        pytest.skip(f"these programs are not installed: {', '.join(missing)}")
    outcomes = list(corpus.outcomes())
    assert [outcome for outcome in outcomes if outcome.wrong] == []
    whole = [outcome for outcome in outcomes if ", cut at" not in outcome.name]
    assert sum(outcome.verdict == "decoded" for outcome in whole) > 200
