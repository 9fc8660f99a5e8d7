"""``skastw info``, ``export``, ``push`` and ``demo``: inspect, convert, upload and try a saved model."""

from typing import Any

import click

from skastw.cli._options import as_json, device, model_option, revision
from skastw.cli._output import print_json, print_line, print_pairs


@click.command()
@click.argument("model", type=click.Path(), metavar="DIR_OR_REPO")
@revision
@as_json
def info(model: str, revision: str | None, as_json: bool) -> None:
    """Print a summary of a saved model: components, parameters, classes and scores.

    The weights are not loaded.

    \b
    skastw info exports/animals
    """
    from skastw.artifact.folder import FETCHED, describe_model
    from skastw.storage.hub import fetch

    model_info = describe_model(fetch(model, FETCHED, revision=revision))
    if as_json:
        print_json(model_info)
        return

    components, weights, n_parameters = (model_info.pop(name) for name in ("components", "weights", "n_parameters"))
    lines = model_info | {kind: _call(component) for kind, component in components.items()}
    lines["augment"] = ", ".join(map(_call, model_info["augment"]))
    labels = model_info["labels"]
    lines["labels"] = f"{len(labels)}: {', '.join(map(str, labels))}" if labels else None  # of a pretrained encoder
    if isinstance(n_parameters, int):  # models of earlier releases do not have it
        lines["parameters"] = f"{n_parameters:,}"
    lines["weights"] = f"{weights['tensors']} tensors, {weights['bytes']:,} bytes"

    test = model_info["test"] or {}
    tables = model_info | {"test": {name: value for name, value in test.items() if isinstance(value, float | int)}}
    for name in ("params", "validation", "test", "versions"):
        lines[name] = ", ".join(f"{key} {_rounded(value)}" for key, value in (tables[name] or {}).items())
    print_pairs({name: value for name, value in lines.items() if value not in (None, "")})


def _call(value: Any) -> str:
    """Return a component, or a parameter that may contain components, as a call."""
    if isinstance(value, dict) and {"name", "params"} <= value.keys():
        return f"{value['name']}({', '.join(f'{name}={_call(item)}' for name, item in value['params'].items())})"
    return f"[{', '.join(map(_call, value))}]" if isinstance(value, list) else repr(value)


def _rounded(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@click.command()
@click.argument("model", type=click.Path(), metavar="DIR_OR_REPO")
@click.argument("output", metavar="OUT.onnx", type=click.Path())
@revision
def export(model: str, output: str, revision: str | None) -> None:
    """Write a saved classifier as one ONNX file.

    The file computes probabilities from a waveform, and does not need PyTorch.

    \b
    skastw export exports/animals animals.onnx
    """
    from skastw import ASTWClassifier
    from skastw.storage.outputs import check_file

    check_file(output, [".onnx"])
    classifier = ASTWClassifier.from_pretrained(model, revision=revision, device="cpu")
    print_line(classifier.export_onnx(output))


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.argument("repository", metavar="USER/NAME")
@click.option("--private/--public", default=None, help="Visibility of a new repository.")
def push(folder: str, repository: str, private: bool | None) -> None:
    """Upload a saved model to the Hugging Face Hub.

    Prints the URL of the commit. The token comes from HF_TOKEN or from `hf auth login`.

    \b
    skastw push exports/animals user/animals --private
    """
    from skastw.artifact.folder import read_artifact, read_files
    from skastw.storage.hub import push as push_files

    read_artifact(folder)  # a damaged model is not uploaded
    click.echo(push_files(read_files(folder), repository, private=private))


@click.command()
@model_option
@revision
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port of the page; 0 for any free port.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; by default only for this machine."
)
@click.option(
    "--max-upload", metavar="SIZE", default="50MB", show_default=True, help="Size of the largest accepted file."
)
@click.option(
    "--window",
    metavar="SECONDS",
    type=float,
    help="Length of the windows along a clip; by default a fifth of the clip.",
)
@click.option("--top-k", "-k", type=click.IntRange(1), default=5, show_default=True, help="Number of classes to show.")
@device
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
def demo(
    model: str,
    revision: str | None,
    port: int,
    host: str,
    max_upload: str,
    window: float | None,
    top_k: int,
    device: str,
    no_browser: bool,
) -> None:
    """Serve a web page for trying a saved classifier.

    Record or upload a clip to see the predicted classes, for the whole clip and over time.

    \b
    skastw demo --model exports/animals
    """
    from skastw import ASTWClassifier
    from skastw.serving import model_name, parse_size, serve

    serve(
        ASTWClassifier.from_pretrained(model, revision=revision, device=device),
        title=model_name(model),
        host=host,
        port=port,
        top_k=top_k,
        window=window,
        max_upload=parse_size(max_upload),
        open_browser=not no_browser,
    )
