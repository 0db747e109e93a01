"""Families of earthquakes from the fingerprints of their spectrograms, from laptop to cluster."""

__version__ = "0.1.0"

from specufex_dask.activations import compute_activations
from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.clusters import cluster_fingerprints
from specufex_dask.fingerprints import compute_fingerprints
from specufex_dask.hmm import fit_hmm
from specufex_dask.models import hmm_model, nmf_model
from specufex_dask.nmf import fit_nmf
from specufex_dask.report import report
from specufex_dask.simulate import simulate
from specufex_dask.spectrograms import compute_spectrograms, spectrogram_dataset
from specufex_dask.store import load, save
from specufex_dask.waveforms import open_waveforms

__all__ = [
    "cluster_fingerprints",
    "compute_activations",
    "compute_fingerprints",
    "compute_spectrograms",
    "fit_hmm",
    "fit_nmf",
    "hmm_model",
    "load",
    "nmf_model",
    "open_waveforms",
    "read_catalog",
    "read_picks",
    "read_stations",
    "report",
    "save",
    "simulate",
    "spectrogram_dataset",
]
