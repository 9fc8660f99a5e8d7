"""The ground that everything stands on: components, padded sequences, devices, random generators, warnings."""
