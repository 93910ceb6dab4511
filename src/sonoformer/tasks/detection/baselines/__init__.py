"""What a detector is compared with: simpler systems on the same frames, from the same training."""
