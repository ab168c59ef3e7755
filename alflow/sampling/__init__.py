"""How new structures are found: walkers, candidates, and the selection among what they bring."""
