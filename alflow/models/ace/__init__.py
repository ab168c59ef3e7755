"""The built-in model: linear atomic cluster expansions whose members share their features."""
