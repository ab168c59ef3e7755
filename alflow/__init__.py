"""alflow: committee potentials by active learning, and simulations that know where they can be trusted.

>>> import alflow
>>> frames = alflow.read("labelled.xyz")  # doctest: +SKIP
>>> committee = alflow.fit(frames)  # doctest: +SKIP
>>> committee.predict(atoms).energy_sigma  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alflow.version import __version__

if TYPE_CHECKING:
    from alflow.committee.committee import Committee
    from alflow.committee.protocol import Prediction
    from alflow.data.reading import read
    from alflow.models.files import load
    from alflow.models.fitting import fit


__all__ = ["Committee", "Prediction", "__version__", "fit", "load", "read"]

_HOMES = {
    "Committee": "alflow.committee.committee",
    "Prediction": "alflow.committee.protocol",
    "fit": "alflow.models.fitting",
    "load": "alflow.models.files",
    "read": "alflow.data.reading",
}


def __getattr__(name: str) -> Any:
    """Import the numerical part only when it is asked for, so that ``alflow --help`` is quick."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    msg = f"module 'alflow' has no attribute {name!r}"
    raise AttributeError(msg)
