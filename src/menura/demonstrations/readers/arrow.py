"""Apache Arrow columns as NumPy arrays, without copying where Arrow allows it."""

from pathlib import Path
from typing import Any

import numpy as np

from menura.core import RequestError
from menura.demonstrations.readers.common import need, parsing, read_only


def open_table(path: Path, container: str, columns: list[str] | None = None) -> Any:
    """A validated table from an Arrow ``stream`` or ``file``, both memory-mapped, or from ``parquet``."""
    pa = need("pyarrow", path)
    parquet = need("pyarrow.parquet", path)
    with parsing(path, f"an Arrow {container}" if container != "parquet" else "Parquet"):
        if container == "parquet":
            table = parquet.ParquetFile(path).read(columns)
        else:
            source = pa.memory_map(str(path), "r")
            reader = pa.ipc.open_stream(source) if container == "stream" else pa.ipc.open_file(source)
            table = reader.read_all()
        table.validate(full=True)
    return table


def to_numpy(values: Any, *, where: str, field: str) -> np.ndarray:
    """An Arrow array of numbers, or of equally long lists of them, however deep; rows first."""
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    shape = [len(values)]
    while True:
        if values.null_count:
            raise RequestError(f"{where}: {field} has gaps (nulls); every step needs a value.")
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        elif pa.types.is_fixed_size_list(values.type):
            shape.append(values.type.list_size)
            values = values.flatten()
        elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            widths = np.unique(np.diff(values.offsets.to_numpy()))
            if len(widths) > 1:
                raise RequestError(
                    f"{where}: {field} has rows of {widths[0]} and of {widths[-1]} values; all must be alike."
                )
            shape.append(int(widths[0]) if len(widths) else 0)
            values = values.flatten()
        else:
            break
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise RequestError(f"{where}: {field} are {kind}, not numbers; store them as floats or integers.")
    with parsing(Path(where), "Arrow numbers"):
        return read_only(values.to_numpy(zero_copy_only=False).reshape(shape))
