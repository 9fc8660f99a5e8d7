"""``skastw bench``."""

import click

from skastw.cli._options import as_json, device, recipe_option
from skastw.cli._output import print_json, print_pairs


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
