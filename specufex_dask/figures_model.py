"""Figures of the two models: convergence, dictionary, weight, emission, spectra of the states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import (
    INK,
    Array,
    Margins,
    Panel,
    colour_bar,
    grid,
    image,
    label,
    plain_log,
    png,
    round_ticks,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_SLATE = "#3d4f60"
"""No cluster's colour: these figures are about all records."""
_FULL = {"nmf": "NMF (spectral patterns)", "hmm": "HMM (states)"}


def convergence(model: xr.Dataset, stage: str) -> Panel | None:
    """Held-out score, patterns alive (NMF) and step size against the step; None without a history."""
    if "history_step" not in model:
        return None
    step = model.history_step.values
    rows = ["score", *(["size"] if stage == "nmf" else []), "step_size"]
    figure, axes = grid(4.6, [1.5, *[0.95] * (len(rows) - 1)], margins=Margins(left=0.78), sharex=True)
    for row, (ax,) in zip(rows, axes, strict=True):
        _DRAW[row](ax, step, model[f"history_{row}"].values)
        ax.margins(x=0.02)
    label(axes[-1][0], x="global step (number)")
    score = model.history_score.values
    taken = score[np.isfinite(score)]
    ending = f"from {taken[0]:.4g} to {taken[-1]:.4g}" if taken.size else "not taken"
    alive = f"; patterns alive {model.history_size.values[-1]:d} at the end" if "size" in rows else ""
    return Panel(
        f"Convergence of the {_FULL[stage]}",
        "Held-out score: how well records that were never fitted are explained, per unit of their content; higher is "
        "better, and a level end means that more steps would not help. "
        + ("Patterns alive: those not yet pruned as unneeded. " if "size" in rows else "")
        + "Step size: the share of each step that is replaced by the newest minibatch."
        + _ENDINGS.get(model.attrs.get("stopped", ""), ""),
        f"Held-out score of the {stage} against {int(step[-1])} global steps, {ending}{alive}.",
        png(figure),
    )


_ENDINGS = {
    "converged": " The fit stopped when the score no longer rose; the model is that of the best score.",
    "max_steps": " The fit stopped at the largest number of steps allowed.",
}


def _draw_score(ax: Axes, step: Array, score: Array) -> None:
    taken = np.isfinite(score)
    ax.plot(step[taken], score[taken], "o-", color=_SLATE, markersize=2.5, linewidth=1)
    if not taken.any():
        ax.text(0.5, 0.5, "no held-out score was taken", transform=ax.transAxes, ha="center", color=INK, fontsize=8)
    ax.ticklabel_format(axis="y", useOffset=False)
    label(ax, y="held-out\nscore (1)")


def _draw_patterns(ax: Axes, step: Array, patterns: Array) -> None:
    ax.step(step, patterns, where="post", color=_SLATE, linewidth=1.2)
    ax.set_ylim(0, 1.08 * patterns.max())
    label(ax, y="patterns\nalive (number)")


def _draw_step_size(ax: Axes, step: Array, size: Array) -> None:
    ax.plot(step, size, color=_SLATE, linewidth=1.2)
    plain_log(ax)
    label(ax, y="step size\nρ (1)")


_DRAW = {"score": _draw_score, "size": _draw_patterns, "step_size": _draw_step_size}


def peak_order(nmf: xr.Dataset) -> Array:
    """The patterns (pattern) in the order of the frequency of their maximum."""
    return np.argsort(nmf.dictionary.values.argmax(axis=0), kind="stable")


def dictionary(nmf: xr.Dataset) -> Panel:
    """The spectral patterns (frequency, pattern), each over its largest value, sorted by peak."""
    order = peak_order(nmf)
    values = nmf.dictionary.values[:, order]
    frequency = nmf.frequency.values
    figure, ((ax,),) = grid(4.6, [2.9], margins=Margins(right=0.72))
    count = order.size
    drawn = image(ax, values / values.max(axis=0), np.arange(count), frequency, vmin=0, vmax=1)
    ax.plot(np.arange(count), frequency[values.argmax(axis=0)], ".", color="white", markersize=3)
    _pattern_ticks(ax, order)
    label(ax, y="frequency (Hz)")
    colour_bar(ax, drawn, "pattern / its largest value (1)")
    peaks = frequency[values.argmax(axis=0)]
    return Panel(
        "Dictionary",
        f"The {count} spectral patterns that the NMF found. Each column is one pattern: the frequencies that rise and "
        "fall together. Columns are sorted by the frequency of their peak (white dots), and each is scaled to its own "
        "peak. The numbers are the patterns' positions in the store.",
        f"Dictionary of {count} spectral patterns with peaks from {peaks.min():.1f} to {peaks.max():.1f} Hz.",
        png(figure),
    )


def _pattern_ticks(ax: Axes, order: Array) -> None:
    places = round_ticks(order.size, 16)
    ax.set_xticks(places, [str(p) for p in order[places]])
    label(ax, x="pattern (number in the store)")


def weights(nmf: xr.Dataset) -> Panel:
    """Weight and gain (pattern), in the order of the dictionary's figure."""
    order = peak_order(nmf)
    figure, ((top,), (bottom,)) = grid(4.6, [1.35, 1.35], sharex=True, margins=Margins(left=0.66))
    places = np.arange(order.size)
    weight, gain = nmf.weight.values[order], nmf.gain.values[order]
    top.bar(places, weight, color=_SLATE, width=0.75)
    bottom.bar(places, gain, color=_SLATE, width=0.75)
    label(top, y="weight (1)")
    label(bottom, y="gain (1)")
    _pattern_ticks(bottom, order)
    largest = order[int(weight.argmax())]
    return Panel(
        "Weights of the patterns",
        "Weight: how much the data use a pattern over all records; a pattern of almost no weight is pruned. Gain: the "
        "sum of the pattern over frequency. Same order as the dictionary.",
        f"Weight and gain of {order.size} patterns; the largest weight is that of pattern {largest}.",
        png(figure),
    )


def emission(hmm: xr.Dataset, nmf: xr.Dataset | None) -> Panel:
    """The emission (state, pattern) of each state, patterns in the order of the dictionary."""
    values = hmm.emission.values
    order = peak_order(nmf) if nmf is not None else np.arange(values.shape[1])
    figure, ((ax,),) = grid(4.6, [2.9], margins=Margins(right=0.72))
    drawn = image(ax, values[:, order], np.arange(order.size), np.arange(len(values)), norm=_root_norm(values))
    _downwards(ax, len(values))
    _pattern_ticks(ax, order)
    label(ax, y="state (number)")
    colour_bar(ax, drawn, "emission (dB)")
    return Panel(
        "Emission",
        "What each state of the HMM sounds like: the expected strength of each spectral pattern while the state lasts. "
        "State 0 is the strongest in sum; the quietest states, usually the noise, are at the bottom. Colours follow "
        "the square root, so that weak patterns show.",
        f"Emission of {values.shape[0]} states over {values.shape[1]} patterns, at most {values.max():.3g} dB.",
        png(figure),
    )


def state_spectra(hmm: xr.Dataset, nmf: xr.Dataset) -> Panel:
    """The spectrum that each state stands for: emission over gain, through the dictionary [dB]."""
    per_activation = nmf.dictionary.values * nmf.weight.values / nmf.gain.values
    values = hmm.emission.values @ per_activation.T
    frequency = nmf.frequency.values
    figure, ((ax,),) = grid(4.6, [2.9], margins=Margins(right=0.72))
    drawn = image(ax, values.T, np.arange(len(values)), frequency, vmin=0)
    ax.set_xticks(round_ticks(len(values), 16))
    label(ax, x="state (number)", y="frequency (Hz)")
    colour_bar(ax, drawn, "level above the record's median (dB)")
    return Panel(
        "Spectrum of each state",
        "The same states as spectra: each column is the column of a spectrogram that its state expects, in dB above "
        "the record's own median.",
        f"Expected spectra of {len(values)} states from {frequency[0]:.1f} to {frequency[-1]:.1f} Hz.",
        png(figure),
    )


def _root_norm(values: Array) -> object:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0, vmax=float(values.max()))


def _downwards(ax: Axes, states: int) -> None:
    """State 0 at the top, a tick for each of at most 20 states."""
    ax.set_ylim(states - 0.5, -0.5)
    ax.set_yticks(round_ticks(states, 20))
