"""Models whose committees alflow trains or takes."""

from alflow.committee.protocol import Prediction
from alflow.models.ace import Committee, fit, load

__all__ = ["Committee", "Prediction", "fit", "load"]
