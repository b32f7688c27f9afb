"""Vigie: what happens, never who. Video and audio analytics that send only anonymised event metadata."""

__version__ = "0.1.0"
