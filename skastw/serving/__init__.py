"""A local demo page for a trained classifier: record or drop a clip and see the predictions."""

from skastw.serving.app import create_app
from skastw.serving.server import model_name, parse_size, serve

__all__ = ["create_app", "model_name", "parse_size", "serve"]
