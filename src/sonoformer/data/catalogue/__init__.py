"""Public sets of recordings, fetched by name into a cache."""

from sonoformer.data.catalogue.cache import cache_folder
from sonoformer.data.catalogue.catalogue import entry, fetch, local, manifest_path
from sonoformer.data.catalogue.entries import ENTRIES, Entry

__all__ = ["ENTRIES", "Entry", "cache_folder", "entry", "fetch", "local", "manifest_path"]
