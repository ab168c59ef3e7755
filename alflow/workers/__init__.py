"""Calculations in another process or interpreter: programs, and ASE calculators; plain data in and out."""
