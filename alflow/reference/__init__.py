"""Reference methods: structures in, energies and forces out, and every failure with its reason."""
