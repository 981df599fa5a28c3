"""Tile ids against the `pmtiles` package."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.tile import tileid_to_zxy, zxy_to_tileid

from edge_server.packs.tile_ids import MAX_TILE_ID, MAX_ZOOM, ZOOM_BASES, id_to_zxy, zoom_of_id, zxy_to_id

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True)


@st.composite
def addresses(draw: st.DrawFn) -> tuple[int, int, int]:
    z = draw(st.integers(0, MAX_ZOOM))
    return z, draw(st.integers(0, 2**z - 1)), draw(st.integers(0, 2**z - 1))


def test_all_tiles_of_the_first_zooms_have_the_ids_of_the_reference() -> None:
    for z in range(6):
        for x in range(1 << z):
            for y in range(1 << z):
                assert zxy_to_id(z, x, y) == zxy_to_tileid(z, x, y)


@SETTINGS
@given(addresses())
def test_any_tile_has_the_id_of_the_reference(address: tuple[int, int, int]) -> None:
    assert zxy_to_id(*address) == zxy_to_tileid(*address)


@SETTINGS
@given(st.integers(0, MAX_TILE_ID))
def test_any_id_has_the_address_of_the_reference_and_leads_back(tile_id: int) -> None:
    assert id_to_zxy(tile_id) == tileid_to_zxy(tile_id)
    assert zxy_to_id(*id_to_zxy(tile_id)) == tile_id


@pytest.mark.parametrize("zoom", range(MAX_ZOOM + 1))
def test_a_zoom_begins_at_its_base_and_ends_before_the_next(zoom: int) -> None:
    assert zoom_of_id(ZOOM_BASES[zoom]) == zoom
    assert zoom_of_id(ZOOM_BASES[zoom + 1] - 1) == zoom
    assert zxy_to_id(zoom, 0, 0) == ZOOM_BASES[zoom]


@pytest.mark.parametrize(
    "address",
    [(32, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 8, 0), (3, 0, 8), (3, -1, 0), (3, 0, -1)],
    ids=str,
)
def test_an_address_outside_the_grid_is_refused(address: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such tile"):
        zxy_to_id(*address)


@pytest.mark.parametrize("tile_id", [-1, MAX_TILE_ID + 1])
def test_an_id_outside_the_zooms_is_refused(tile_id: int) -> None:
    with pytest.raises(ValueError, match="no such tile id"):
        id_to_zxy(tile_id)
