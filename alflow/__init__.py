"""alflow: committee potentials by active learning, and simulations that know where they can be trusted.

>>> import alflow
>>> committee = alflow.fit(frames)  # doctest: +SKIP
>>> committee.predict(atoms).energy_sigma  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from alflow.version import __version__

if TYPE_CHECKING:
    from alflow.committee.protocol import Prediction
    from alflow.models import Committee, fit, load


__all__ = ["Committee", "Prediction", "__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    """Import the numerical part only when it is asked for, so that ``alflow --help`` is quick."""
    if name in __all__:
        from alflow import models

        return getattr(models, name)
    msg = f"module 'alflow' has no attribute {name!r}"
    raise AttributeError(msg)
