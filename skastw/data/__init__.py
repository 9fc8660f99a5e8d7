"""Conversion of X and y to data sets: checks, extraction of frames, unreadable clips, frame stores and splits."""
