"""What `make setup` installs is what constraints.txt pins, to the last dependency's dependency."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# What a Python comes with, and what pip builds this package with.
UNPINNED = {"pip", "setuptools", "wheel", "sum3dcam"}


def pins(path: Path) -> dict[str, str]:
    """Version by canonical name; fails for a line that is no exact pin."""
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (one,) = requirement.specifier
            assert (one.operator, requirement.url, requirement.marker) == ("==", None, None), line
            found[canonicalize_name(requirement.name)] = one.version
    return found


def asked_for() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][extra] for extra in ("dev", "openvino", "train"))
    lists = (project["dependencies"], *extras)
    return [Requirement(line) for one in lists for line in one]


def installed() -> dict[str, str]:
    """Version by canonical name of all that the project asks for, its dependencies' dependencies included."""
    found: dict[str, str] = {}
    waiting = asked_for()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or name in UNPINNED or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        distribution = metadata.distribution(name)
        found[name] = distribution.version
        waiting += [Requirement(line) for line in distribution.requires or []]
    return found


def test_every_package_is_pinned_at_the_version_that_is_tested() -> None:
    pinned = pins(ROOT / "constraints.txt")
    # torch for the CPU is the same version under a local label.
    here = {name: version.partition("+")[0] for name, version in installed().items()}
    assert {name: pinned.get(name) for name in here} == here


def test_every_pin_is_within_the_bounds() -> None:
    pinned = pins(ROOT / "constraints.txt")
    for requirement in asked_for():
        name = canonicalize_name(requirement.name)
        if name not in UNPINNED:
            assert pinned[name] in requirement.specifier, str(requirement)


def test_tritons_environment_is_pinned_and_shares_versions_where_it_can() -> None:
    pinned, of_triton = pins(ROOT / "constraints.txt"), pins(ROOT / "serve_config" / "triton-requirements.txt")
    for name in ("av", "onnxruntime", "safetensors", "scipy", "pyyaml"):
        assert of_triton[name] == pinned[name]
