"""What a run looks like: readers of the store, at any time, also while it is written."""
