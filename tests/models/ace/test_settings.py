"""Settings of the built-in potential: from keywords, from alflow.toml, and from a file of a model."""

import json

import numpy as np
import pytest
from alflow.errors import PotentialError
from alflow.models.ace.potential import AcePotential
from alflow.models.ace.settings import AceSettings


def test_the_defaults_of_the_file_are_those_of_the_keywords() -> None:
    table, keywords = AcePotential().model_dump(), AceSettings.checked({}).plain()
    assert {name: table[name] for name in keywords if name in table} == {
        name: value for name, value in keywords.items() if name != "smoothness"
    }
    assert set(table) - set(keywords) == {"kind", "n_members"}
    assert keywords["smoothness"] == 2.0


def test_settings_survive_a_file() -> None:
    settings = AceSettings.checked({"cutoff": 4, "n_features": 77, "smoothness": 1.5})
    assert AceSettings.checked(json.loads(json.dumps(settings.plain()))) == settings


def test_pair_terms_do_not_outgrow_the_others() -> None:
    settings = AceSettings.checked({})
    assert [settings.pairs_of(n) for n in (1, 4, 5, 10, 89)] == [36, 36, 28, 13, 8]
    assert AceSettings.checked({"n_max": 12}).pairs_of(89) == 12
    assert AceSettings.checked({"n_pair": 20}).pairs_of(89) == 20


def test_numbers_of_numpy_are_numbers() -> None:
    settings = AceSettings.checked({"cutoff": np.float32(4.5), "n_max": np.int64(3)})
    assert (settings.cutoff, settings.n_max) == (4.5, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cutof": 1}, r"unknown setting cutof of the potential: did you mean cutoff\?"),
        ({"n_members": 1}, r"unknown setting n_members of the potential: "),
        ({"xyzzy": 1}, r"unknown setting xyzzy of the potential: expected one of cutoff, n_max, l_max, n_pair, "),
        ({"cutoff": 0}, r"potential setting cutoff: expected a number > 0, found 0"),
        ({"cutoff": -1.5}, r"potential setting cutoff: expected a number > 0, found -1.5"),
        ({"cutoff": np.inf}, r"potential setting cutoff: expected a finite number, found inf"),
        ({"cutoff": "far"}, r"potential setting cutoff: expected a valid number, found far"),
        ({"smoothness": -1}, r"potential setting smoothness: expected a number >= 0, found -1"),
        ({"l_max": -1}, r"potential setting l_max: expected a number >= 0, found -1"),
        ({"l_max": 13}, r"potential setting l_max: expected a number <= 12, found 13"),
        ({"n_max": 0}, r"potential setting n_max: expected a number >= 1, found 0"),
        ({"n_pair": 61}, r"potential setting n_pair: expected a number <= 60, found 61"),
        ({"n_max": 2.5}, r"potential setting n_max: expected a valid integer, found 2.5"),
    ],
)
def test_what_is_not_allowed(given: dict[str, object], message: str) -> None:
    with pytest.raises(PotentialError, match=f"^{message}"):
        AceSettings.checked(given)
