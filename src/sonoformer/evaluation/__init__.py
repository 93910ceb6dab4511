"""How good a system is, and how sure one can be: metrics, intervals, probes, reports."""
