"""What each finished step leaves behind: frozen, columnar dataclasses put into files by :mod:`alflow.state.encoding`.

Lengths: K frames sampled, W walkers, S frames selected, L labels, F failures, M members, N atoms.
Units: eV, Å, fs, K, e; energies per structure unless said.
"""
