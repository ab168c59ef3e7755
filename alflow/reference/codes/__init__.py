"""One file for each reference code."""
