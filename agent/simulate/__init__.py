"""Scenarios with ground truth: people who walk over a ground plane, as boxes or as simple pictures of a camera."""
