"""Saved models: the folder of six files, its model card, and export to ONNX."""
