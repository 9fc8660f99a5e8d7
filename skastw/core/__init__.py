"""Shared basics: components, padded sequences, devices, random generators and warnings."""
