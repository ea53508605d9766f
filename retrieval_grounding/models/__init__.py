"""Detectors and encoders, and where they run."""
