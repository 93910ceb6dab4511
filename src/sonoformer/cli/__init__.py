"""The command line: one file per verb, the same names as the Python API."""
