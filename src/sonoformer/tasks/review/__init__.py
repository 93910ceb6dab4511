"""Review: what a model found goes to a person as clips, and comes back as labels."""
