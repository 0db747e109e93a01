"""Functions on one block of records: NumPy, SciPy and numba only; inputs are never modified."""
