"""Figures as matplotlib has them, for tests of what is drawn in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specufex_dask.figures import png

if TYPE_CHECKING:
    import pytest
    from matplotlib.figure import Figure


def kept_figures(monkeypatch: pytest.MonkeyPatch, *modules: str) -> list[Figure]:
    """The figures that `modules` (``figures_…``) will make from now on, kept before they become pictures."""
    kept: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        kept.append(figure)
        return png(figure)

    for module in modules:
        monkeypatch.setattr(f"specufex_dask.figures_{module}.png", keep)
    return kept
