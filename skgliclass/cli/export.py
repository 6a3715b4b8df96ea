"""``skgliclass export``: write a model for a runtime other than torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .folders import check_new_folder

_EPILOG = """examples:
  skgliclass export mini --output onnx
  skgliclass export tuned --output onnx --format onnx
"""


def add_export(commands: Any) -> None:
    """Add the command and its options to a parser's commands."""
    parser = commands.add_parser(
        "export",
        help="write a model as ONNX",
        description="Write a uni-encoder or a bi-encoder as ONNX, with its tokenizer and "
        "prompt.json, which says how to build the inputs. onnxruntime runs it without torch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="mini, a folder or a hub id")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument("--format", default="onnx", choices=["onnx"])
    parser.add_argument("--revision", help="of a hub repository")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export as the arguments say."""
    check_new_folder(args.output, reads=(args.model,))
    # torch is imported once the arguments are known to be right.
    from ..export.onnx import export_onnx

    folder = export_onnx(args.model, args.output, revision=args.revision)
    written = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
    print(f"wrote {written} to {folder}")
