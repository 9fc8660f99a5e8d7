"""Recipes: named sets of parameters, as files."""

from skastw.recipes.loader import Recipe, load_recipe, plain_params, recipe_names, recipe_text, resolve_params

__all__ = ["Recipe", "load_recipe", "plain_params", "recipe_names", "recipe_text", "resolve_params"]
