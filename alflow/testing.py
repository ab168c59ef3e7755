"""The contract of potentials, to be checked in the tests of whoever writes one.

>>> from alflow.testing import SINGLE, check_potential
>>> check_potential(committee, frames, precision=SINGLE)  # doctest: +SKIP
"""

from alflow.committee.testing import DOUBLE, SINGLE, Precision, check_model, check_potential

__all__ = ["DOUBLE", "SINGLE", "Precision", "check_model", "check_potential"]
