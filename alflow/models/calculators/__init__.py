"""A committee of ASE calculators that are there already: nothing is trained."""
