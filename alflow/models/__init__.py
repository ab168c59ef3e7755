"""Models whose committees alflow trains or takes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alflow.committee.protocol import Prediction
    from alflow.models.ace.committee import Committee, fit, load

__all__ = ["Committee", "Prediction", "fit", "load"]


def __getattr__(name: str) -> Any:
    """Import the numerical part only when it is asked for: settings of models are read without compiling a kernel."""
    if name in __all__:
        from alflow.models.ace import committee

        return getattr(committee, name)
    msg = f"module 'alflow.models' has no attribute {name!r}"
    raise AttributeError(msg)
