"""Observables, computed frame by frame: what is averaged, and what becomes of the averages.

:func:`alflow.averages.observables.parsing.parse` makes an :class:`alflow.averages.observables.base.Observable` of a
line of words: its kind, positional words, then ``key=value`` options, of the kinds
:data:`alflow.averages.observables.parsing.KINDS`. Atoms are counted from 0, species are symbols of elements, lengths
are in Å, angles in degrees.

freud, which finds neighbours and pair distributions, calculates in single precision: its distances and angles have a
relative error of 1e-6, so a pair that near a cutoff or a bin's edge may fall on its other side.
"""
