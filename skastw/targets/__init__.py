"""The kinds of y that a model learns."""
