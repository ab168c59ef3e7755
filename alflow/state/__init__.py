"""The run directory: verified, immutable files, what lies in them, and who may write. It knows no physics."""
