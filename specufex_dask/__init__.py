"""Families of earthquakes from the fingerprints of their spectrograms, from laptop to cluster."""

__version__ = "0.1.0"

from specufex_dask.activations import compute_activations
from specufex_dask.assignment import assign
from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.clusters import cluster_fingerprints, cluster_stations
from specufex_dask.comparison import compare_sequences
from specufex_dask.correlation import correlate
from specufex_dask.fingerprints import compute_fingerprints
from specufex_dask.hmm import fit_hmm
from specufex_dask.hypodd import read_hypodd, run_hypodd, write_hypodd
from specufex_dask.merge import merge_stations
from specufex_dask.models import hmm_model, nmf_model
from specufex_dask.nmf import fit_nmf
from specufex_dask.pairs import find_pairs
from specufex_dask.quakeml import to_catalog, write_quakeml
from specufex_dask.quality import quality_table
from specufex_dask.relocated_sequences import relocate_sequences
from specufex_dask.repeater_catalogs import read_repeaters
from specufex_dask.repeaters import find_repeaters
from specufex_dask.report import report
from specufex_dask.simulate import simulate
from specufex_dask.spectrograms import compute_spectrograms, spectrogram_dataset
from specufex_dask.store import load, save
from specufex_dask.to_obspy import to_stream
from specufex_dask.waveforms import open_waveforms

__all__ = [
    "assign",
    "cluster_fingerprints",
    "cluster_stations",
    "compare_sequences",
    "compute_activations",
    "compute_fingerprints",
    "compute_spectrograms",
    "correlate",
    "find_pairs",
    "find_repeaters",
    "fit_hmm",
    "fit_nmf",
    "hmm_model",
    "load",
    "merge_stations",
    "nmf_model",
    "open_waveforms",
    "quality_table",
    "read_catalog",
    "read_hypodd",
    "read_picks",
    "read_repeaters",
    "read_stations",
    "relocate_sequences",
    "report",
    "run_hypodd",
    "save",
    "simulate",
    "spectrogram_dataset",
    "to_catalog",
    "to_stream",
    "write_hypodd",
    "write_quakeml",
]
