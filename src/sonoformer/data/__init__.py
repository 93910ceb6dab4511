"""Recordings and labels -> batches: manifests, splits, packed caches, augmentation, order."""
