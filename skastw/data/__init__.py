"""From X and y to data sets: checks, extraction of frames, failures, stores and splits."""
