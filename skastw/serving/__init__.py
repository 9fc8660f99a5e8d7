"""A local page on which a trained classifier is tried: record or drop a clip, see what the model hears."""

from skastw.serving.app import create_app
from skastw.serving.server import parse_size, serve

__all__ = ["create_app", "parse_size", "serve"]
