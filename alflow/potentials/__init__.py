"""Potentials that give the energies of a whole committee."""

from alflow.potentials.ace import Committee, fit, load
from alflow.potentials.base import Forward, Gradient, Potential, Prediction

__all__ = ["Committee", "Forward", "Gradient", "Potential", "Prediction", "fit", "load"]
