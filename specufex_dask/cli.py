"""The command ``specufex-dask``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from specufex_dask.runs import BusyStoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

_MISUSED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``specufex-dask`` with the arguments `argv`; return its exit code.

    0 is success, 2 a mistake of the user's, told in one message without a traceback (``--debug``
    shows it).

    Examples
    --------
    >>> main(["report", "no-such-study.zarr"])
    2
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s")  # to standard error
    logging.getLogger("specufex_dask").setLevel(logging.INFO)
    try:
        arguments.command(arguments)
    except (ValueError, OSError, ImportError, BusyStoreError) as error:
        if arguments.debug:
            raise
        told = str(error).replace("overwrite=True", "--overwrite")  # as the command line has it, not Python
        print(f"specufex-dask: error: {told}\n(--debug shows where it was raised)", file=sys.stderr)
        return _MISUSED
    return 0


def _parser() -> argparse.ArgumentParser:
    from specufex_dask import __version__

    parser = argparse.ArgumentParser(
        prog="specufex-dask", description="Fingerprints of earthquake spectrograms, from waveforms to clusters."
    )
    parser.add_argument("--version", action="version", version=f"specufex-dask {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_report(commands)
    _add_status(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="simulate a study with known families and find them again")
    demo.add_argument("--path", type=Path, default=Path("demo"), help="folder to write to (default: %(default)s)")
    demo.add_argument("--n-events", type=int, default=400, help="events to simulate (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of all that is random (default: %(default)s)")
    demo.set_defaults(command=_demo)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser("run", help="run a study from catalog to report; what is stored is not computed again")
    run.add_argument("study", type=Path, metavar="STUDY.yaml")
    run.add_argument("--store", help="write here instead of where the study says (a path or a URL)")
    run.add_argument("--report", help="write the report here instead of where the study says (a path or a URL)")
    run.add_argument("--overwrite", action="store_true", help="replace what was stored with other parameters")
    run.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE",
        help="replace one setting, such as waveforms.station_id=all; may be repeated",
    )  # fmt: skip
    run.set_defaults(command=_run)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="write the one-page report of a store")
    report.add_argument("store", metavar="STORE")
    report.add_argument("--output", default="report.html", help="page to write, or its URL (default: %(default)s)")
    report.add_argument("--group", help="group of the models to report, such as a station_id")
    report.set_defaults(command=_report)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    status = commands.add_parser("status", help="say what a store holds, what is left, and what would happen next")
    status.add_argument("store", metavar="STORE")
    status.add_argument("--group", help="only the stages of this group, such as a station_id")
    status.set_defaults(command=_status)


def _run(arguments: argparse.Namespace) -> None:
    from specufex_dask.config import run

    overrides = list(arguments.overrides)
    given = {"store.store": arguments.store, "report.path": arguments.report}  # of the store its options still hold
    given = {name: at for name, at in given.items() if at}
    # A path given here is relative to where the command runs, not to the study.
    overrides += [f"{name}={at if '://' in at else Path(at).absolute()}" for name, at in given.items()]
    start = time.perf_counter()
    study = run(arguments.study, overrides=overrides, overwrite=arguments.overwrite, announce=_announce)
    _tell("report", f"{study.report}, the whole run", time.perf_counter() - start)


def _report(arguments: argparse.Namespace) -> None:
    import specufex_dask

    print(specufex_dask.report(arguments.store, arguments.output, group=arguments.group))


def _status(arguments: argparse.Namespace) -> None:
    from specufex_dask.status import status

    print(status(arguments.store, group=arguments.group))


def _demo(arguments: argparse.Namespace) -> None:
    from specufex_dask.demo import demo

    demo(arguments.path, n_events=arguments.n_events, seed=arguments.seed, announce=_announce, tell=_tell)


def _announce(stage: str, dataset: xr.Dataset, seconds: float) -> None:
    from specufex_dask.summary import summary

    _tell(stage, summary(stage, dataset), seconds)


def _tell(title: str, text: str, seconds: float) -> None:
    print(f"{title:<14}{text}  [{seconds:.1f} s]", flush=True)
