"""vLLM's own benchmark client, `vllm bench serve`; a script for the engine's Python.

vLLM's command line first asks for the metadata of a package named vllm, which its build for CPUs has
not, so its parser and its `main` are called here as that command calls them. Nothing of the harness is
imported, as the engine's Python has none of it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    if Path(sys.path[0]) == Path(__file__).parent:
        del sys.path[0]  # its modules are none of the engine's
    serve = import_module("vllm.benchmarks.serve")
    parser = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    serve.add_cli_args(parser)
    serve.main(parser.parse_args())


if __name__ == "__main__":
    main()
