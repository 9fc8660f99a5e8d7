"""A fitted model as a folder, a model card or an ONNX file."""
