"""What each finished step leaves behind: frozen, columnar dataclasses, and how they lie in an HDF5 file.

A field is one of five kinds, and its kind decides where it goes in the file:

====================  =====================================================================================
field type            place in the file
====================  =====================================================================================
``int/float/bool/str``  an attribute of the group ``/record``
``Array``             the dataset ``/record/<field>``
``tuple[str, ...]``   the dataset ``/record/<field>`` of variable-length UTF-8 strings
``tuple[Atoms, ...]`` the H5MD group ``/particles/<field>`` (written and read by znh5md)
``Committee``         the group ``/model`` (:meth:`alflow.potentials.ace.Committee.write`)
====================  =====================================================================================

Lengths: K frames sampled, W walkers, S frames selected, L labels, F failures, M members, N atoms.
Units: eV, Å, fs, K, e; energies per structure unless said.
"""
