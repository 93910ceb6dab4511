"""Events in recordings: frame scores to events, calibration, and how good they are."""
