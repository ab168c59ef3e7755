"""The built-in potential: a committee of linear atomic cluster expansions that share their features."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alflow.models.ace.committee import Committee, fit, load

__all__ = ["Committee", "fit", "load"]


def __getattr__(name: str) -> Any:
    """Import the numerical part only when it is asked for: its settings are read without compiling a kernel."""
    if name in __all__:
        from alflow.models.ace import committee

        return getattr(committee, name)
    msg = f"module 'alflow.models.ace' has no attribute {name!r}"
    raise AttributeError(msg)
