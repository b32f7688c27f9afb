"""Accuracy and speed, measured against labels, ground truth and other programs; for developers."""
