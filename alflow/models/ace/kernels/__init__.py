"""The loops, compiled: from neighbours to densities, features and energies, and back.

Every atom's work is independent of every other's and done in a fixed order, so that results do not depend on the number
of threads. A *block*, :data:`alflow.models.ace.lanes.LANES` atoms of one species, is worked on at once: the k-th
neighbours of all of them together, then their densities and features. Atoms rather than the functions of one atom fill
the vector registers, as every atom needs the same operations, while the number of functions is rarely a multiple of
anything. Slots of a block that are left over hold atom -1.

Symbols: N atoms, P pairs, S species, K densities and V vectors of an atom, F features of an atom, M members; lm runs
over (l_max + 1)^2 real spherical harmonics.

Numba's cache of a compiled function notices changes of its own module only: after a change of what other modules call,
delete the cache (``NUMBA_CACHE_DIR``, or ``__pycache__``).
"""
