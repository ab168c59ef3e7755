"""Thermodynamic averages with their statistical and model errors: arrays and atoms in, arrays out."""
