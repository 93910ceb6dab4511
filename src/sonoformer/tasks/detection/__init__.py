"""Detection: which classes are heard when, one decision a token column."""
