"""The network, the fitted model as a value, and inference."""
