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
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for part in parts:
        for name, values in part.items():
            seen = shapes.setdefault(name, [])
            if values.shape[1:] not in seen:
                seen.append(values.shape[1:])
    joined: dict[str, Array] = {}
    for name, shape in [(name, shape) for name, seen in shapes.items() for shape in seen]:
        key = name if shape == shapes[name][0] else "_".join([name, *(map(str, shape) if shape else ["scalar"])])
        columns = [
            part[name] if name in part and part[name].shape[1:] == shape else np.full((length, *shape), np.nan)
            for part, length in zip(parts, lengths, strict=True)
        ]
        # A record that was joined before has that name already, for the same values: each row is in one of the two.
        values = np.concatenate(columns)
        joined[key] = values if key not in joined else np.where(np.isnan(joined[key]), values, joined[key])
    return joined
