"""Committees of potentials: prediction with uncertainty, calibration, the weighted baseline. No model is known here."""
