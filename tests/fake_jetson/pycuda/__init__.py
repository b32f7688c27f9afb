"""A stand-in for pycuda (documen.tician.de/pycuda), so far as Vigie calls it; see `pycuda.driver`."""
