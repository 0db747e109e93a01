"""Read the texts of an HDF5 dataset; by ourselves, for in a damaged file HDF5 looks for them for ever.

It also takes the word of a file on how long they are, and memory accordingly.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.hdf5_files import read_at

if TYPE_CHECKING:
    from specufex_dask.objects import Objects

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
_HEAP = struct.Struct("<4sB3xQ")  # signature, version, length
_ITEM = struct.Struct("<HH4xQ")  # number, references, length


def read_texts(dataset: Any, key: tuple[Any, ...], objects: Objects) -> list[str]:  # noqa: ANN401 - h5py has no types
    """The texts of `dataset` (entry,) of the file of the version `key`; numbers as texts.

    Raises
    ------
    ValueError
        A text is not where the file says.
    """
    offset, n_bytes = dataset.id.get_offset(), dataset.id.get_storage_size()
    if dataset.dtype.kind != "O" or offset is None or n_bytes != _REFERENCE.itemsize * dataset.size:
        return [each.decode() if isinstance(each, bytes) else str(each) for each in dataset[()].tolist()]
    heaps: dict[int, dict[int, bytes]] = {}
    found = []
    for length, heap, number in np.frombuffer(read_at(offset, offset + n_bytes, key, objects), _REFERENCE).tolist():
        if length and heap not in heaps:
            heaps[heap] = _heap(heap, key, objects)
        text = heaps[heap].get(number, b"") if length else b""
        if len(text) < length:
            msg = f"a text of {length} bytes of {dataset.name} is not in the file"
            raise ValueError(msg)
        found.append(text[:length].decode())
    return found


def _heap(start: int, key: tuple[Any, ...], objects: Objects) -> dict[int, bytes]:
    """The items of the global heap at the byte `start`, by number (HDF5 File Format Specification, III.E)."""
    signature, layout, length = _HEAP.unpack(read_at(start, start + _HEAP.size, key, objects))
    if (signature, layout) != (b"GCOL", 1):
        msg = f"no heap at byte {start}"
        raise ValueError(msg)
    content = read_at(start, start + length, key, objects)
    items: dict[int, bytes] = {}
    at = _HEAP.size
    while at + _ITEM.size <= length:
        number, _, n_bytes = _ITEM.unpack_from(content, at)
        if number == 0:  # what is free
            break
        at += _ITEM.size
        items[number] = content[at : at + n_bytes]
        at += -(-n_bytes // 8) * 8
    return items
