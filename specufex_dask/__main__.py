"""``python -m specufex_dask``: the same as the command ``specufex-dask``."""

from __future__ import annotations

import sys

from specufex_dask.cli import main

sys.exit(main())
