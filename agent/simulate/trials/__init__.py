"""Trials: short scenes with ground truth, each about one event type: what should be told, or what must not."""
