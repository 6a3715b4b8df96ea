"""Run the notebooks and keep their outputs, without what differs from machine to machine.

python notebooks/execute.py [NAME.ipynb ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def execute(path: Path) -> nbformat.NotebookNode:
    """Run every cell of a notebook in the notebook's folder.

    Parameters
    ----------
    path : Path
        The notebook, which is not modified.

    Returns
    -------
    NotebookNode
        With the outputs.

    Raises
    ------
    CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    metadata = dict(notebook.metadata)
    environment = {
        **os.environ,
        # One thread, so that sums are taken in the same order on every machine.
        "OMP_NUM_THREADS": "1",
        # Pictures are outputs, whatever draws them for whoever runs this.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # tqdm warns where its widgets are not installed.
        "PYTHONWARNINGS": "ignore:IProgress not found",
    }
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        # Else what is printed comes in as many pieces as the pace of the machine makes of it.
        coalesce_streams=True,
        resources=resources,
    ).execute(env=environment)
    notebook.metadata.update(metadata)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main() -> None:
    """Run the notebooks that the command line names."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    for path in paths:
        nbformat.write(execute(path), path)
        print(path)


if __name__ == "__main__":
    main()
