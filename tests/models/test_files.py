"""Committees from files."""

import alflow
import numpy as np
import pytest
from alflow.errors import PotentialError

from lj_frames import SMALL, bonded, water
from some_records import meddle


def test_a_committee_from_a_file_can_be_updated(tmp_path) -> None:
    frames = bonded(water(), 12)
    alflow.fit(frames[:8], **SMALL).save(tmp_path / "model.h5")
    loaded = alflow.load(tmp_path / "model.h5")
    loaded.update(frames[8:])
    grown = alflow.fit(frames[:8], **SMALL)
    grown.update(frames[8:])
    a, b = loaded.predict(frames[0]), grown.predict(frames[0])
    np.testing.assert_allclose(a.energies, b.energies, rtol=1e-6)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-6)


@pytest.mark.parametrize(
    ("schema", "message"), [(1, "older alflow .*train it again"), (2, "older"), (99, "newer .*update alflow")]
)
def test_models_of_other_versions_are_refused(schema: int, message: str, tmp_path) -> None:
    alflow.fit(bonded(water(), 4), **SMALL).save(tmp_path / "model.h5")
    meddle(tmp_path / "model.h5", lambda file: file["model"].attrs.__setitem__("schema", schema))
    with pytest.raises(PotentialError, match=message):
        alflow.load(tmp_path / "model.h5")
