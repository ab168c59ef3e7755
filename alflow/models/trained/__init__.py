"""A committee whose members a program trains."""
