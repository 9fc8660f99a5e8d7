"""The network, and predictions with it."""
