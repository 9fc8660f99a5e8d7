"""``skastw recipes``."""

import click

from skastw.cli._options import as_json
from skastw.cli._output import print_json, print_table
from skastw.cli.completion import complete_recipe


@click.command()
@click.argument("recipe", required=False, shell_complete=complete_recipe, metavar="[RECIPE]")
@as_json
def recipes(recipe: str | None, as_json: bool) -> None:
    """List the recipes, or print one as YAML.

    A recipe is a named set of parameters. Edit a printed recipe to write your own.

    \b
    skastw recipes
    skastw recipes small > mine.yaml
    """
    from skastw.recipes import load_recipe, recipe_names, recipe_text

    if recipe is not None and not as_json:
        click.echo(recipe_text(recipe), nl=False)
        return

    chosen = [load_recipe(name) for name in (recipe_names() if recipe is None else [recipe])]
    if as_json:
        for item in chosen:
            print_json({"name": item.name, "description": item.description})
    else:
        print_table([("name", "description"), *((item.name, item.description) for item in chosen)], "<<")
