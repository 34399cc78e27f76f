"""As much of kustomize as serve_config/kubernetes uses: resources, namespace, images, JSON patches."""

from pathlib import Path
from typing import Any

import jsonpatch
import yaml

KNOWN = {"apiVersion", "kind", "resources", "namespace", "images", "patches"}


def render(folder: Path) -> list[dict[str, Any]]:
    """The objects that `kubectl kustomize FOLDER` prints, in the order of the files."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(kustomization) <= KNOWN, f"{folder} uses more of kustomize than this renders"
    objects = [found for name in kustomization["resources"] for found in _resource(folder / name)]
    for patch in kustomization.get("patches", []):
        matching = [one for one in objects if _matches(one, patch["target"])]
        assert len(matching) == 1, f"{patch['target']} names {len(matching)} objects"
        objects[objects.index(matching[0])] = jsonpatch.apply_patch(matching[0], yaml.safe_load(patch["patch"]))
    for one in objects:
        if "namespace" in kustomization and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = kustomization["namespace"]
        for image in kustomization.get("images", []):
            for container in one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return objects


def _resource(path: Path) -> list[dict[str, Any]]:
    return render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _matches(one: dict[str, Any], target: dict[str, str]) -> bool:
    return one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"]
