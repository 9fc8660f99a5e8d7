"""``skastw pretrained``: list, describe, download and convert checkpoints."""

import re
from importlib import resources
from typing import Any

import click
from click.shell_completion import CompletionItem

from skastw.cli._options import as_json
from skastw.cli._output import print_json, print_line, print_pairs, print_table


def _complete_name(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of checkpoints that begin with ``incomplete``."""
    text = resources.files("skastw").joinpath("storage", "known_checkpoints.yaml").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+):$", text, flags=re.MULTILINE)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_name = click.argument("name", shell_complete=_complete_name, metavar="NAME")


@click.group()
def pretrained() -> None:
    """List, describe, download and convert pretrained weights.

    \b
    skastw pretrained list --task speech --max-size 100
    skastw pretrained info wavlm-base-plus
    """


@pretrained.command("list")
@click.option(
    "--task", type=click.Choice(["speech", "speaker", "emotion", "sounds", "images"]), help="Only for this task."
)
@click.option("--licence", "license_", metavar="LICENCE", help="Only with this licence, such as apache-2.0.")
@click.option(
    "--max-size", type=click.FloatRange(0), metavar="MILLIONS", help="Only with at most so many million parameters."
)
@as_json
def list_(task: str | None, license_: str | None, max_size: float | None, as_json: bool) -> None:
    """List well-known checkpoints. Nothing is downloaded.

    \b
    skastw pretrained list --licence apache-2.0
    """
    from skastw.encoders import list_pretrained

    most = None if max_size is None else max_size * 1e6
    table = list_pretrained(task=task, license=license_, max_parameters=most)
    checkpoints = [_facts(table, name) for name in table.index]
    if as_json:
        for facts in checkpoints:
            print_json(facts)
        return

    rows = [
        (
            facts["name"],
            facts["task"],
            f"{facts['parameters'] / 1e6:.0f} M",
            _rate(facts) or "any",
            facts["license"],
            facts["encoder"],
        )
        for facts in checkpoints
    ]
    print_table([("name", "task", "parameters", "sample rate", "licence", "encoder"), *rows], "<<>><<")


@pretrained.command("info")
@_name
@as_json
def info(name: str, as_json: bool) -> None:
    """Print everything that is known of a checkpoint, and the code that uses it.

    \b
    skastw pretrained info wavlm-base-plus
    """
    from skastw.encoders import list_pretrained
    from skastw.encoders._known import code_of

    code = code_of(name)
    facts = _facts(list_pretrained(), name)
    if as_json:
        print_json({**facts, "code": code})
        return

    unpinned = "not published: pin the commit that fetch prints" if "repository" in facts else None
    lines = {
        **{key: facts[key] for key in ("name", "title", "task", "encoder", "model_type")},
        "parameters": f"{facts['parameters']:,}",
        "sample rate": _rate(facts),
        "licence": facts["license"],
        "repository": facts.get("repository"),
        "revision": facts.get("revision", unpinned),
        "address": facts.get("url"),
        "file": facts["file"] + (f", {facts['bytes']:,} bytes" if "bytes" in facts else ""),
        "SHA-256": facts.get("sha256", "not published"),
        "citation": facts["citation"],
        "source": " ".join(facts["source"]),
    }
    print_pairs({key: value for key, value in lines.items() if value is not None})
    click.echo(f"\n{code}")


def _rate(facts: dict[str, Any]) -> str | None:
    return f"{facts['sample_rate']} Hz" if "sample_rate" in facts else None


def _facts(table: Any, name: str) -> dict[str, Any]:
    """Return a row of the table of checkpoints without missing values."""
    row = table.loc[[name]].astype(object)
    known = {key: value for key, value in row.iloc[0].items() if isinstance(value, list) or row[key].notna().all()}
    return {"name": name, **known}


@pretrained.command("fetch")
@_name
def fetch(name: str) -> None:
    """Download a checkpoint into the cache of the Hub, and print its folder or file.

    The commit and the SHA-256 are checked if they are published. Later calls need no network.

    \b
    skastw pretrained fetch wavlm-base-plus
    """
    from skastw.encoders import fetch_pretrained

    print_line(fetch_pretrained(name))


@pretrained.command("convert")
@click.argument("file", metavar="FILE", type=click.Path())
@click.argument("output", metavar="DIR", type=click.Path(file_okay=False))
def convert(file: str, output: str) -> None:
    """Convert a file of torch.save (.pt, .pth, .bin, .ckpt) to safetensors.

    Nothing in the file is executed. The folder can be given as weights of an encoder.

    \b
    skastw pretrained convert owls.pt owls
    """
    from skastw.storage.torch_files import convert_torch_file

    print_line(str(convert_torch_file(file, output)))
