from __future__ import annotations

import pytest

from edge_server.observe.quantiles import quantile

BOUNDS = (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("share", "counts", "value"),
    [
        (0.5, (4, 0, 0, 0), 0.25),
        (1.0, (4, 0, 0, 0), 0.5),
        (0.5, (1, 1, 2, 0), 1.0),
        (0.75, (1, 1, 2, 0), 1.5),
        (0.99, (0, 0, 100, 0), 1.99),
        (0.5, (0, 0, 0, 3), 2.0),
        (0.25, (1, 0, 0, 3), 0.5),
        (0.26, (1, 0, 0, 3), 2.0),
        (0.5, (0, 0, 0, 0), None),
        (0.0, (5, 0, 0, 0), None),
    ],
)
def test_a_quantile_is_linear_inside_its_bucket(
    share: float, counts: tuple[int, ...], value: float | None
) -> None:
    found = quantile(share, BOUNDS, counts)
    assert found == (None if value is None else pytest.approx(value))
