"""What the package leaves behind in a process: nothing but its results."""

import json
import os
import subprocess
import sys

import pytest

STEPS = {
    "import": "from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor",
    "clips": """if True:
        from skastw.datasets import make_tones
        from skastw.encoders import ASTWEncoder
        clips, y = make_tones(n_clips=12, random_state=0)
        settings = {"encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1), "epochs": 2}
    """,
    "fit": "classifier = ASTWClassifier(**settings, cache='disk').fit(clips, y)",
    "fit on values": "ASTWRegressor(**settings, precision='float64', n_jobs=2).fit(clips, y.astype(float))",
    "progress": "ASTWClassifier(**settings, verbose=1).fit(clips, y)",
    "partial_fit": "ASTWClassifier(**settings).partial_fit(clips, y, classes=[0, 1, 2]).partial_fit(clips, y)",
    "cache": "ASTWClassifier(**settings, cache_dir='frames').fit(clips, y)",
    "checkpoint": "ASTWClassifier(**settings, checkpoint_dir='runs').fit(clips, y)",
    "failed fit": """if True:
        try:
            ASTWClassifier(**settings).fit([*clips[:11], "lost.wav"], y)
        except ValueError:
            pass
    """,
    "predict": "classifier.set_params(n_jobs=2, tta=2).predict(clips)",
    "parts": "from skastw.analysis import write_parts; write_parts(classifier, clips, 'parts', block=5)",
    "features": "ASTWFeaturizer(output='statistics').fit_transform(clips)",
    "windows": "classifier.predict_windows(clips[:2], window=0.2)",
    "explain": "classifier.explain(clips[0])",
    "save": "classifier.save_pretrained('model')",
    "load": "ASTWClassifier.from_pretrained('model').predict(clips)",
    "evaluate": "from skastw.evaluation import evaluate; evaluation = evaluate(classifier, clips, y, groups=y)",
    "report": """if True:
        from importlib.util import find_spec
        if find_spec("matplotlib"):
            evaluation.save("report")
    """,
    "describe": "from skastw.datasets import describe_audio; describe_audio(clips, y)",
    "bench": "from skastw.evaluation.bench import measure_speed; measure_speed('tiny', n_clips=2, duration=0.2)",
}

PROBE = '''
import json, logging, os, random, signal, sys, tempfile, threading, warnings
import numpy, sklearn, torch  # what they do when they are imported is theirs

def own_filters():
    """Leave out what scipy and sympy, which torch imports, say of their own warnings."""
    return [repr(entry) for entry in warnings.filters if not entry[2].__module__.startswith(("scipy.", "sympy."))]

def state():
    loggers = {name: found for name, found in logging.root.manager.loggerDict.items() if name.startswith("skastw")}
    return {
        "Python's random state": random.getstate(),
        "numpy's random state": [repr(part) for part in numpy.random.get_state()],
        "torch's random state": torch.get_rng_state().tolist(),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "signal handlers": [repr(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "warning filters": own_filters(),
        "showwarning": repr(warnings.showwarning),
        "hooks": repr((sys.excepthook, sys.unraisablehook, threading.excepthook)),
        "logging": [logging.root.level, len(logging.root.handlers), repr(loggers)],
        "numpy's errors": numpy.geterr(),
        "torch's threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "torch's number formats": [repr(torch.get_default_dtype()), torch.get_float32_matmul_precision()],
        "torch's modes": [
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        ],
    }

changes, before = {}, state()
for step, code in json.loads(sys.argv[1]).items():
    exec(code)
    after = state()
    changes[step] = [what for what, value in after.items() if value != before[what]]
    before = after
print(json.dumps(changes))
'''


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """What each step changed in a process of its own."""
    folder, temporary = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("temporary")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", PROBE, json.dumps(STEPS)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_left_behind(changes, step):
    assert changes[step] == []


def test_an_export_leaves_no_trace_of_torchs_compiler(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    script = """if True:
        import os, tempfile
        from pathlib import Path
        from skastw import ASTWClassifier
        from skastw.datasets import make_tones
        from skastw.encoders import ASTWEncoder

        clips, y = make_tones(n_clips=6, random_state=0)
        encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
        classifier = ASTWClassifier(encoder=encoder, epochs=1, val_split=None).fit(clips, y)
        before = dict(os.environ)
        classifier.export_onnx("tones.onnx")
        changed = dict(set(os.environ.items()) ^ set(before.items()))
        print(changed, list(Path(tempfile.gettempdir()).glob("torchinductor_*")))
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["{} []"], done.stderr
