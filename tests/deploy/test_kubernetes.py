"""The manifests: rendered by kubectl, judged by the API's schemas, and in step with what they deploy.

kubernetes-validate has the schemas of Kubernetes itself. ServiceMonitor belongs to the Prometheus operator:
the fields that we use are written down here as its API reference has them, and nothing else may stand there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from edge_server.config.load import load
from edge_server.config.schema import Config
from edge_server.config.units import parse_size
from edge_server.supervisor.room import needed_bytes
from tests.servers import run

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("offline", "live")
VERSIONS = ("1.30", "1.34")  # of Kubernetes: the oldest that is meant, and a newer one
OLDEST_KUSTOMIZE = 5

Manifest = dict[str, Any]


def kustomize_major() -> int:
    """Return the version of kubectl's kustomize; 0 where there is none, or one that does not say."""
    if shutil.which("kubectl") is None:
        return 0
    command = ["kubectl", "version", "--client", "--output=json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    try:
        return int(json.loads(told)["kustomizeVersion"].lstrip("v").partition(".")[0])
    except (ValueError, KeyError):
        return 0


pytestmark = pytest.mark.skipif(
    kustomize_major() < OLDEST_KUSTOMIZE,
    reason="kubectl 1.28 or newer is not installed (Debian 12's kubernetes-client is 1.20, which is too old)",
)


def rendered(folder: Path) -> list[Manifest]:
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return list(yaml.safe_load_all(done.stdout))


class Overlay:
    """What an overlay renders to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifests = rendered(MANIFESTS / "overlays" / name)

    def of(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (manifest,) = self.of(kind)
        return manifest

    @property
    def pod(self) -> Manifest:
        template: Manifest = self.one("Deployment")["spec"]["template"]
        return template

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["spec"]["containers"]
        assert isinstance(container, dict)
        return container

    def volume(self, name: str) -> Manifest:
        (volume,) = [each for each in self.pod["spec"]["volumes"] if each["name"] == name]
        assert isinstance(volume, dict)
        return volume

    def settings(self, folder: Path) -> Path:
        """Write what is mounted at /etc/ron to a folder; return the file that the pod starts with."""
        config_map = self.one("ConfigMap")
        assert self.volume("config")["configMap"]["name"] == config_map["metadata"]["name"]
        for name, text in config_map["data"].items():
            (folder / name).write_text(text)
        return folder / Path(self.container["args"][1]).name

    def config(self, folder: Path) -> Config:
        return load(str(self.settings(folder)), flags={}, environ={}, to_serve=False).config


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return Overlay(request.param)


@pytest.fixture(scope="module")
def offline() -> Overlay:
    return Overlay("offline")


@pytest.fixture(scope="module")
def live() -> Overlay:
    return Overlay("live")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_knows_every_field(overlay: Overlay, version: str) -> None:
    for manifest in overlay.manifests:
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_it_does_not_know_would_be_found(offline: Overlay) -> None:
    manifest = {
        **offline.one("Service"),
        "spec": {**offline.one("Service")["spec"], "sesionAffinity": "None"},
    }
    with pytest.raises(kubernetes_validate.ValidationError, match="sesionAffinity"):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


def test_everything_that_is_promised_is_there(overlay: Overlay) -> None:
    kinds = {manifest["kind"] for manifest in overlay.manifests}
    assert kinds == {
        *("Deployment", "Service", "ConfigMap", "PersistentVolumeClaim", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"),
    }


def test_the_settings_are_ones_that_the_server_takes(overlay: Overlay, tmp_path: Path) -> None:
    assert overlay.container["args"] == ["--config", "/etc/ron/svc-edge.yaml"]
    done = run("check", "--no-packs", "--config", overlay.settings(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    config = overlay.config(tmp_path)
    assert [source.path for source in config.edge.packs] == ["/data"]
    assert config.edge.mode == overlay.name
    ports = {port["name"]: port["containerPort"] for port in overlay.container["ports"]}
    assert ports == {"http": config.bind_addr.port, "metrics": config.metrics_addr.port}


def test_the_pod_is_as_the_manual_has_it(overlay: Overlay) -> None:
    deployment, pod, container = overlay.one("Deployment")["spec"], overlay.pod["spec"], overlay.container
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "@sha256:" in container["image"]
    assert container["resources"] == {
        "requests": {"cpu": "250m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "512Mi"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/etc/ron"]["readOnly"]
    assert mounts["/data"]["readOnly"]
    assert overlay.volume("packs")["persistentVolumeClaim"]["readOnly"]
    for name in ("shm", "tmp"):
        assert overlay.volume(name)["emptyDir"]["medium"] == "Memory"


def test_probes_ask_the_port_that_clients_ask(overlay: Overlay) -> None:
    probes = {
        name: overlay.container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")
    }
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "liveness": "/healthz",
        "readiness": "/readyz",
        "startup": "/healthz",
    }
    assert {probe["port"] for probe in probes.values()} == {"http"}


def test_a_pod_has_time_to_drain(overlay: Overlay, tmp_path: Path) -> None:
    (_, _, script) = overlay.container["lifecycle"]["preStop"]["exec"]["command"]
    command, pause = (part.strip() for part in script.split(";"))
    assert command == "svc-edge drain --config /etc/ron/svc-edge.yaml"
    pause_s = int(pause.removeprefix("sleep "))
    drain_s = overlay.config(tmp_path).workers.drain_timeout
    assert overlay.pod["spec"]["terminationGracePeriodSeconds"] >= pause_s + drain_s + 10


def test_shared_memory_and_the_limit_have_room(overlay: Overlay, tmp_path: Path) -> None:
    config = overlay.config(tmp_path)
    shm = parse_size(overlay.volume("shm")["emptyDir"]["sizeLimit"] + "B")
    limit = parse_size(overlay.container["resources"]["limits"]["memory"] + "B")
    catalogs = 64 << 20
    assert shm >= catalogs + needed_bytes(config)
    assert limit >= shm + config.workers.warm_bytes + (128 << 20)


def selected(overlay: Overlay) -> Iterator[tuple[str, Manifest]]:
    """Yield every selector that is to mean our pods, with its place."""
    yield "Service", overlay.one("Service")["spec"]["selector"]
    yield "Deployment", overlay.one("Deployment")["spec"]["selector"]["matchLabels"]
    yield "PodDisruptionBudget", overlay.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    for policy in overlay.of("NetworkPolicy"):
        yield policy["metadata"]["name"], policy["spec"]["podSelector"]["matchLabels"]
    for constraint in overlay.pod["spec"]["topologySpreadConstraints"]:
        yield "topologySpreadConstraints", constraint["labelSelector"]["matchLabels"]


def test_every_selector_means_the_pods(overlay: Overlay) -> None:
    labels = overlay.pod["metadata"]["labels"].items()
    found = list(selected(overlay))
    assert all(wanted.items() <= labels and wanted for _, wanted in found), found


def test_the_service_leads_to_both_ports(overlay: Overlay) -> None:
    ports = {port["name"]: port["targetPort"] for port in overlay.one("Service")["spec"]["ports"]}
    assert ports == {"http": "http", "metrics": "metrics"}


def test_the_autoscaler_asks_for_a_metric_that_there_is(overlay: Overlay) -> None:
    scaler = overlay.one("HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 12)
    assert scaler["scaleTargetRef"]["name"] == overlay.one("Deployment")["metadata"]["name"]
    (metric,) = scaler["metrics"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "80"}
    (rule,) = yaml.safe_load((MANIFESTS / "prometheus-adapter" / "values.yaml").read_text())["rules"][
        "custom"
    ]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"] == "edge_inflight"
    series = rule["seriesQuery"].partition("{")[0]
    assert f"`{series}`" in (ROOT / "docs" / "METRICS.md").read_text()
    query = rule["metricsQuery"]
    for variable, text in (("Series", series), ("LabelMatchers", 'pod="a"'), ("GroupBy", "pod")):
        query = query.replace(f"<<.{variable}>>", text)
    assert query == 'sum(edge_inflight{pod="a"}) by (pod)'


def test_the_autoscalers_aim_is_four_fifths_of_the_cap(overlay: Overlay, tmp_path: Path) -> None:
    (metric,) = overlay.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert (
        int(metric["pods"]["target"]["averageValue"]) == 0.8 * overlay.config(tmp_path).ingress.max_inflight
    )


def ports_of(rules: list[Manifest]) -> set[tuple[str, object]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}


def test_offline_nothing_goes_out(offline: Overlay) -> None:
    policy = offline.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    assert ports_of(policy["ingress"]) == {("TCP", "http"), ("TCP", "metrics")}
    (scraped,) = [rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "metrics"]
    assert scraped["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]


def test_live_only_names_and_https_go_out(live: Overlay) -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in live.of("NetworkPolicy")}
    assert ports_of(policies["svc-edge-fills"]["egress"]) == {("UDP", 53), ("TCP", 53), ("TCP", 443)}
    assert all(rule.get("to") for rule in policies["svc-edge-fills"]["egress"])
    assert "egress" not in policies["svc-edge"]


def test_live_the_token_is_mounted(live: Overlay) -> None:
    (variable,) = live.container["env"]
    assert variable == {"name": "SVC_EDGE_ADMIN__TOKEN_FILE", "value": "/etc/ron-admin/token"}
    mounts = {mount["mountPath"]: mount["name"] for mount in live.container["volumeMounts"]}
    assert live.volume(mounts["/etc/ron-admin"])["secret"]["secretName"] == "svc-edge-admin"


def test_variables_for_services_are_off_and_would_do_no_harm(overlay: Overlay) -> None:
    assert overlay.pod["spec"]["enableServiceLinks"] is False
    done = run("check", "--no-packs", environ={"SVC_EDGE_PORT": "tcp://10.0.0.1:80"})
    assert done.returncode == 0, done.stderr


TEXT = {"type": "string"}
SPAN = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
# monitoring.coreos.com/v1: ServiceMonitorSpec and Endpoint, as far as they are used.
SERVICE_MONITOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["selector", "endpoints"],
    "properties": {
        "selector": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"matchLabels": {"type": "object", "additionalProperties": TEXT}},
        },
        "endpoints": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"port": TEXT, "path": TEXT, "interval": SPAN, "scrapeTimeout": SPAN},
            },
        },
    },
}


def test_the_service_monitor_finds_the_service(overlay: Overlay) -> None:
    monitor, service = overlay.one("ServiceMonitor"), overlay.one("Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    jsonschema.validate(monitor["spec"], SERVICE_MONITOR)
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
