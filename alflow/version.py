"""The version, apart from the package: its modules may know it without importing what they are part of."""

__version__ = "0.1.0"
