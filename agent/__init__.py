"""Vigie: what happens, never who. Video and audio analytics that send only anonymised event metadata."""

import os

# onnxruntime (1.32 does) can report its use to its maker, and gives the machine an id for that: not from here. It must
# be said before onnxruntime is loaded, so that it stands where everything begins.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Matrices are small here: a second thread of OpenBLAS would only wait for the first, busily. Read when numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
