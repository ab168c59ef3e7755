"""The built-in potential: a committee of linear atomic cluster expansions that share their features."""

from alflow.models.ace.committee import Committee, fit, load

__all__ = ["Committee", "fit", "load"]
