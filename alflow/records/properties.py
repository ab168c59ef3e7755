"""Properties by name, of structures or of atoms."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def together(parts: Sequence[dict[str, Array]], lengths: Sequence[int]) -> dict[str, Array]:
    """Properties of several records by name; NaN for those of a record that has none of a name.

    One that has another shape in another record, as moments of collinear spins and of others have, is another property:
    its name gets the shape.
    """
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    for part in parts:
        for name, values in part.items():
            other = name in kinds and kinds[name][1] != values.shape[1:]
            key = "_".join([name, *map(str, values.shape[1:])]) if other else name
            kinds[key] = name, values.shape[1:]
    joined = {}
    for key, (name, shape) in kinds.items():
        columns = [
            part[name] if name in part and part[name].shape[1:] == shape else np.full((length, *shape), np.nan)
            for part, length in zip(parts, lengths, strict=True)
        ]
        joined[key] = np.concatenate(columns)
    return joined
