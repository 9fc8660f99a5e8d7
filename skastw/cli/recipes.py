"""``skastw recipes``, and ``bench``, which measures the speed of a recipe."""

import click

from skastw.cli._options import as_json, device, recipe_option
from skastw.cli._output import print_json, print_pairs, print_table
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


@click.command()
@recipe_option(default="small", show_default=True)
@click.option("--clips", type=click.IntRange(2), default=32, show_default=True, help="Number of clips.")
@click.option(
    "--duration", type=click.FloatRange(0.01), default=5.0, show_default=True, help="Length of a clip in seconds."
)
@device
@as_json
def bench(recipe: str, clips: int, duration: float, device: str, as_json: bool) -> None:
    """Measure the speed of a recipe on this machine.

    The clips are generated. Other programs that run at the same time lower the numbers.

    \b
    skastw bench --recipe small
    """
    from skastw.evaluation.bench import measure_speed

    speed = measure_speed(recipe, n_clips=clips, duration=duration, device=device)
    if as_json:
        print_json(speed)
        return

    rates = ("features", "training", "prediction")
    print_pairs(
        {
            "recipe": f"{speed['recipe']}, {speed['n_parameters']:,} parameters with 2 classes, on {speed['device']}",
            "clips": f"{speed['n_clips']} of {speed['duration']:g} s",
            **{name: f"{speed[name]:.1f} clips/s" for name in rates},
        }
    )
