"""The manifests against the published schemas, and against what they repeat of the server's own configuration."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from tests.oracle import kserve_schema, kustomize

from sum3dcam.serving import launch
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import STOP_SECONDS, configured_ports

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "serve_config" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
VERSIONS = ("1.30", "1.37")
GIB, MIB = 2**30, 2**20

Object = dict[str, Any]


def rendered(overlay: str) -> dict[str, Object]:
    """The overlay's objects by Kind/name."""
    objects = kustomize.render(FOLDER / "overlays" / overlay)
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in objects}


def pod(overlay: str) -> Object:
    return rendered(overlay)["Deployment/sum3dcam"]["spec"]["template"]["spec"]


def container(overlay: str = "cpu") -> Object:
    (found,) = pod(overlay)["containers"]
    return found


def inference_service() -> Object:
    return yaml.safe_load((FOLDER / "kserve" / "inferenceservice.yaml").read_text())


PROPERTIES = read_properties(ROOT / "serve_config" / "config.properties")
PORTS = configured_ports(PROPERTIES)
MODEL_CONFIG = yaml.safe_load((ROOT / "serve_config" / "model-config.yaml").read_text())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(overlay: str, version: str) -> None:
    for one in rendered(overlay).values():
        kubernetes_validate.validate(one, version, strict=True)


def test_kserve_knows_every_field() -> None:
    kserve_schema.validate(inference_service(), model="V1beta1InferenceService")


def misspelt(value: Object, *path: Any) -> Object:
    """The object with its field at path renamed."""
    changed = copy.deepcopy(value)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return changed


@pytest.mark.parametrize("field", ["livenessProbe", "securityContext"])
def test_a_misspelt_field_is_found(field: str) -> None:
    deployment = misspelt(rendered("cpu")["Deployment/sum3dcam"], "spec", "template", "spec", "containers", 0, field)
    with pytest.raises(kubernetes_validate.ValidationError, match=f"{field}x"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(
    "path",
    [("minReplicas",), ("model", "modelFormat"), ("model", "modelFormat", "name"), ("model", "resources", "limits")],
)
def test_a_misspelt_field_of_kserves_is_found(path: tuple[str, ...]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        kserve_schema.validate(
            misspelt(inference_service(), "spec", "predictor", *path), model="V1beta1InferenceService"
        )


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, the oracle of tests/oracle/kustomize, is not there"
)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_the_same(overlay: str) -> None:
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    objects = {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(done.stdout)}
    assert objects == rendered(overlay)


def test_ports_are_the_servers() -> None:
    objects = rendered("cpu")
    scraped = {"metrics": PORTS.metrics, "exporter": PORTS.exporter}
    named = {"http": PORTS.inference, "grpc": PORTS.grpc_inference, "health": PORTS.health, **scraped}
    assert {port["name"]: port["containerPort"] for port in container()["ports"]} == named
    annotations = objects["Deployment/sum3dcam"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(PORTS.exporter)
    service = {
        port["name"]: (port["port"], port["targetPort"]) for port in objects["Service/sum3dcam"]["spec"]["ports"]
    }
    assert service == {name: (named[name], name) for name in ("http", "grpc")}
    for name in service:
        text = json.dumps(objects[f"Ingress/sum3dcam-{name}"]["spec"])
        assert set(re.findall(r'"port": \{"name": "(\w+)"\}', text)) == {name}
    rules = objects["NetworkPolicy/sum3dcam"]["spec"]["ingress"]
    assert [{port["port"] for port in rule["ports"]} for rule in rules] == [set(service), set(scraped)]
    exposed = re.search(r"^EXPOSE (.*)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert exposed is not None
    assert {int(port) for port in exposed[1].split()} == set(named.values())


def test_the_pod_runs_what_the_image_is_made_for() -> None:
    words = container()["args"]
    (last,) = re.findall(r"^CMD (.*)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert words[: len(json.loads(last))] == json.loads(last)
    options = parsed(words)
    assert str(options["config"]) == "build/pod.properties"
    assert options["run_dir"].is_relative_to(container()["volumeMounts"][0]["mountPath"])
    uid = re.search(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert uid is not None
    assert pod("cpu")["securityContext"]["runAsUser"] == int(uid[1])


def parsed(words: list[str]) -> dict[str, Any]:
    """What `launch run` makes of a container's words."""
    assert words[:4] == ["python", "-m", launch.__name__, "run"]
    return launch.main.commands["run"].make_context("run", words[4:]).params


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_period_covers_notice_drain_and_stop(overlay: str) -> None:
    options, ready = parsed(container(overlay)["args"]), container(overlay)["readinessProbe"]
    needed = options["notice_seconds"] + options["drain_seconds"] + 2 * STOP_SECONDS
    assert pod(overlay)["terminationGracePeriodSeconds"] > needed
    # Ready no longer, seen by the kubelet, and some seconds until all who watch have heard of it.
    assert options["notice_seconds"] >= ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"] + 5


def test_times_and_sizes_are_the_servers() -> None:
    objects = rendered("cpu")
    start = container()["startupProbe"]
    start_seconds = start["periodSeconds"] * start["failureThreshold"]
    assert start_seconds == parsed(container()["args"])["timeout_seconds"] == MODEL_CONFIG["startupTimeout"]
    edge = objects["Service/sum3dcam"]["metadata"]["annotations"]["haproxy.org/timeout-server"]
    assert int(edge.removesuffix("s")) > MODEL_CONFIG["responseTimeout"]
    assert inference_service()["spec"]["predictor"]["timeout"] == MODEL_CONFIG["responseTimeout"]
    rules = objects["Ingress/sum3dcam-http"]["metadata"]["annotations"]["haproxy.org/backend-config-snippet"]
    assert f"req.body_size gt {PROPERTIES['max_request_size']} " in rules


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_memory_holds_every_decoder_at_its_limit_and_two_gibibytes_beside(overlay: str) -> None:
    ours = MODEL_CONFIG["sum3dcam"]
    decoders = MODEL_CONFIG["maxWorkers"] * ours["decode_processes"] * ours["max_decode_memory_mib"] * MIB
    limit = container(overlay)["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Gi")) * GIB >= decoders + 2 * GIB


def test_only_pods_of_the_gpu_overlay_ask_for_one_gpu() -> None:
    asked = {overlay: container(overlay)["resources"]["limits"].get("nvidia.com/gpu") for overlay in OVERLAYS}
    assert asked == {"cpu": None, "gpu": "1"}


def test_probes_ask_the_health_endpoint() -> None:
    asked = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    ready, live = ({"path": path, "port": "health"} for path in ("/ready", "/live"))
    assert asked == {"startup": ready, "readiness": ready, "liveness": live}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_meet_the_restricted_standard_and_reach_nothing(overlay: str) -> None:
    spec, one = pod(overlay), container(overlay)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    objects = rendered(overlay)
    enforced = objects["Namespace/sum3dcam"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    network = objects["NetworkPolicy/sum3dcam"]["spec"]
    assert (enforced, network["egress"], set(network["policyTypes"])) == ("restricted", [], {"Ingress", "Egress"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_selects_pods_selects_these(overlay: str) -> None:
    objects = rendered(overlay)
    labels = objects["Deployment/sum3dcam"]["spec"]["template"]["metadata"]["labels"]
    for name, key in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selector = objects[f"{name}/sum3dcam"]["spec"][key]
        assert selector.get("matchLabels", selector) == labels
    target = objects["HorizontalPodAutoscaler/sum3dcam"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sum3dcam"}
    assert "replicas" not in objects["Deployment/sum3dcam"]["spec"]
