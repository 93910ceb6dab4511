"""Blocks that more than one model uses: attention, patches, positions, masks, tokens, heads."""
