"""KServe's published types, with Kubernetes' inside, as a JSON schema: its Python SDK is read, not imported."""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

KUBERNETES = "1.37.0"
_CORE = "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.api"
_OTHERS = {
    "V1ObjectMeta": "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    "K8sIoApiAppsV1DeploymentStrategy": f"{_CORE}.apps.v1.DeploymentStrategy",
}
_SIMPLE: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "object": {},
    "ResourceQuantity": {"type": ["string", "number"]},
}


def validate(value: Any, *, model: str) -> None:
    """Raises jsonschema.ValidationError where the value is no such model, to the last field."""
    definitions = schema_contents(f"kubernetes-json-schema/v{KUBERNETES}-local-strict/_definitions.json", KUBERNETES)
    registry = Resource.from_contents(definitions) @ Registry()
    jsonschema.validators.Draft202012Validator(_schema(model), registry=registry).validate(value)


def _schema(kind: str) -> dict[str, Any]:
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if inner := re.fullmatch(r"list\[(.*)\]", kind):
        return {"type": "array", "items": _schema(inner[1])}
    if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return {"type": "object", "additionalProperties": _schema(inner[1])}
    if kind in _OTHERS:
        return {"$ref": _OTHERS[kind]}
    if kind in _models():
        return _model_schema(_models()[kind])
    return {"$ref": f"{_CORE}.core.v1.{kind.removeprefix('V1')}"}


def _model_schema(path: Path) -> dict[str, Any]:
    text = path.read_text()
    (model,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    facts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in model.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    names, kinds = facts["attribute_map"], facts["openapi_types"]
    required = re.findall(r"Invalid value for `(\w+)`, must not be `None`", text)
    return {
        "type": "object",
        "properties": {names[field]: _schema(kind) for field, kind in kinds.items()},
        "required": [names[field] for field in required],
        "additionalProperties": False,
    }


@cache
def _models() -> dict[str, Path]:
    found = find_spec("kserve")
    assert found is not None
    assert found.origin is not None
    paths = (Path(found.origin).parent / "models").glob("v1*.py")
    return {match[1]: path for path in paths if (match := re.search(r"^class (\w+)\(", path.read_text(), re.M))}
