"""Each warning points at the line of the user's code that caused it."""

import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

import skastw
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.core.warn import ignored_warnings
from skastw.datasets import describe_audio, load_audio_folder, make_tones
from skastw.encoders import ASTWEncoder
from skastw.evaluation import evaluate
from skastw.features import LogMel

CLIPS, LABELS = make_tones(n_clips=12, n_classes=2, random_state=0)
BROKEN = [*CLIPS, np.full(4000, np.nan, dtype=np.float32)]


def small(**params):
    encoder = ASTWEncoder(d_model=8, num_heads=1, num_layers=1)
    return ASTWClassifier(**{"encoder": encoder, "epochs": 1, "val_split": None, "device": "cpu", **params})


def fitted(**params):
    return small(**params).fit(CLIPS, LABELS)


def folder_of_one_class(root):
    (root / "only").mkdir()
    (root / "only" / "a.wav").write_bytes(b"RIFF")
    return root


CALLS = {
    "fit": lambda root: small(on_error="warn").fit(BROKEN, [*LABELS, LABELS[0]]),
    "fit in a pipeline": lambda root: make_pipeline(small(on_error="warn")).fit(BROKEN, [*LABELS, LABELS[0]]),
    "fit in a pipeline with a cache": lambda root: make_pipeline(
        ASTWFeaturizer(on_error="warn", output="statistics"), "passthrough", memory=str(root)
    ).fit([*CLIPS[:2], BROKEN[-1]]),
    "fit in a search": lambda root: cross_validate(
        small(on_error="warn"), BROKEN, [*LABELS, LABELS[0]], cv=[([*range(10), 12], [10, 11])]
    ),
    "partial_fit": lambda root: small(on_error="warn").partial_fit(BROKEN, [*LABELS, LABELS[0]], classes=[0, 1]),
    "predict": lambda root: fitted(on_error="warn").predict(BROKEN),
    "predict_proba": lambda root: fitted(on_error="warn").predict_proba(BROKEN),
    "transform": lambda root: fitted(on_error="warn").transform(BROKEN),
    "featurizer": lambda root: ASTWFeaturizer(on_error="warn").fit_transform(BROKEN),
    "split by groups": lambda root: small(val_split=0.5).fit(CLIPS, LABELS, groups=LABELS),
    "empty mel bands": lambda root: fitted(features=LogMel(n_mels=300)),
    "evaluate": lambda root: evaluate(fitted(), CLIPS, np.where(np.arange(12) < 2, 7, LABELS)),
    "load_audio_folder": lambda root: load_audio_folder(folder_of_one_class(root)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_at_the_call(name, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[name](tmp_path)
    assert caught
    assert {warning.filename for warning in caught} == {__file__}, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("use", ["fit", "transform", "describe"])
def test_clips_with_the_same_doubt_give_few_warnings(use, n_jobs, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(12)]
    for path, clip in zip(paths, CLIPS, strict=True):
        soundfile.write(path, clip, 16000, subtype="PCM_16")
        content = bytearray(path.read_bytes())
        content[40:44] = bytes(4)  # the size of the data, as after a loss of power
        path.write_bytes(content)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if use == "describe":
            describe_audio(paths, LABELS, n_jobs=n_jobs)
        elif use == "fit":
            small(n_jobs=n_jobs).fit(paths, LABELS)
        else:
            ASTWFeaturizer(n_jobs=n_jobs).fit(CLIPS).transform(paths)
    messages = [str(warning.message) for warning in caught]
    assert [str(path) in message for path, message in zip(paths[:3], messages[:3], strict=True)] == [True] * 3
    assert messages[3:] == ["The clips caused 12 such warnings; the first 3 are shown."]
    assert {warning.filename for warning in caught} == {__file__}


def test_no_warning_counts_stack_frames():
    for path in Path(skastw.__file__).parent.rglob("*.py"):
        if path.name != "warn.py":
            assert not re.search(r"stacklevel|warnings\.warn\(", path.read_text(encoding="utf-8")), path


def test_threads_that_ignore_warnings_leave_no_filter_behind():
    before, entered, left = list(warnings.filters), threading.Event(), threading.Event()

    def second():
        with ignored_warnings("of the second"):
            entered.set()
            left.wait(10)

    with ignored_warnings("of the first"):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(0.2)  # in vain: the second has to wait until the first has left
    left.set()
    thread.join()
    assert entered.is_set()
    assert warnings.filters == before
