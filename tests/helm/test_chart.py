"""The chart without a helm binary and without a cluster: lint, render, schemas of Kubernetes, and our own rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import (
    CHART,
    NOTES,
    RELEASE,
    ROOT,
    SCENARIOS,
    Refused,
    lint,
    manifests,
    one_of,
    render,
    scenario,
    with_value,
)

from infoplane.collector.settings import load_settings

pytestmark = pytest.mark.usefixtures("chart_tools")
KUBERNETES = ("1.25", "1.36")
OPERATORS = "monitoring.coreos.com/v1"
SERVICES = ("collector", "controller", "exporter")
LABELS = {"name", "instance", "component", "version", "part-of", "managed-by"}


@pytest.fixture(params=SCENARIOS)
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return scenario(request.param)


def deployments(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield every Deployment and its pod."""
    for one in objects:
        if one["kind"] == "Deployment":
            yield one, one["spec"]["template"]["spec"]


def containers(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for _, pod in deployments(objects):
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


def pods_by_component(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one, pod in deployments(objects):
        yield one["metadata"]["labels"]["app.kubernetes.io/component"], pod


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def test_the_scenarios_are_those_that_the_readme_names() -> None:
    assert SCENARIOS == ["enforce", "minimal", "monitoring"]
    readme = (CHART / "README.md").read_text()
    assert all(f"ci/{name}-values.yaml" in readme for name in SCENARIOS)


def test_lint_has_nothing_to_say(values: dict[str, Any]) -> None:
    assert lint(values) == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(values: dict[str, Any], version: str) -> None:
    import kubernetes_validate

    objects = manifests(values)
    native = [one for one in objects if one["apiVersion"] != OPERATORS]
    for one in native:
        # It answers with the version whose schema it used; an older one would mean that ours is not there.
        assert kubernetes_validate.validate(one, version, strict=True) == version
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    assert len(list(deployments(objects))) == len(SERVICES)


def test_the_validator_would_see_a_mistake() -> None:
    import kubernetes_validate

    service = one_of(manifests(scenario("minimal")), "Service")
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(service, KUBERNETES[0], strict=True)


def test_pods_meet_the_restricted_standard(values: dict[str, Any]) -> None:
    for _, pod in deployments(manifests(values)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert {kind for volume in pod["volumes"] for kind in volume} <= {
            "name",
            "configMap",
            "emptyDir",
            "secret",
        }
    for container in containers(manifests(values)):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "readOnly" not in mounts.pop("/tmp")
        assert all(mount["readOnly"] for mount in mounts.values())


def test_containers_are_bounded_and_probed(values: dict[str, Any]) -> None:
    objects = manifests(values)
    for container in containers(objects):
        for bound in ("requests", "limits"):
            assert container["resources"][bound].keys() >= {"cpu", "memory"}
    for _, pod in deployments(objects):
        (container,) = pod["containers"]
        (port,) = container["ports"]
        path = "/healthz" if container["name"] == "exporter" else "/metrics"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}


def test_images_are_named_exactly(values: dict[str, Any]) -> None:
    for container in containers(manifests(values)):
        assert re.fullmatch(r"infoplane(:0\.1\.0|@sha256:[0-9a-f]{64})", container["image"])


def test_labels_and_selectors(values: dict[str, Any]) -> None:
    objects = manifests(values)
    for one in objects:
        labels = one["metadata"]["labels"]
        assert {f"app.kubernetes.io/{name}" for name in LABELS} <= labels.keys()
        assert "helm.sh/chart" in labels
        assert len(one["metadata"]["name"]) <= 63
    for deployment, _ in deployments(objects):
        selector = deployment["spec"]["selector"]["matchLabels"]
        template = deployment["spec"]["template"]["metadata"]["labels"]
        assert selector.items() < template.items()
        # What an upgrade changes must not be in a selector: Kubernetes forbids to change that.
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & selector.keys()
    selectors = [
        str(deployment["spec"]["selector"]["matchLabels"]) for deployment, _ in deployments(objects)
    ]
    assert len(set(selectors)) == len(SERVICES)


def test_the_service_leads_to_the_exporter(values: dict[str, Any]) -> None:
    objects = manifests(values)
    service = one_of(objects, "Service")
    template = one_of(objects, "Deployment", "-exporter")["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = template["spec"]["containers"][0]["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]


def test_services_read_the_rendered_settings(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the environment of each pod, read by the code that will read them there."""
    objects = manifests(values)
    data = one_of(
        objects,
        "ConfigMap",
        one_of(objects, "Service")["spec"]["selector"]["app.kubernetes.io/name"],
    )["data"]
    (tmp_path / "infoplane.yaml").write_text(data["infoplane.yaml"])
    for _, pod in deployments(objects):
        (container,) = pod["containers"]
        with monkeypatch.context() as patch:
            for name, value in environment(container).items():
                patch.setenv(name, value)
            assert environment(container)["INFOPLANE_CONFIG"] == "/etc/infoplane/infoplane.yaml"
            patch.setenv("INFOPLANE_CONFIG", str(tmp_path / "infoplane.yaml"))
            settings = load_settings()
        assert settings.kafka.bootstrap_servers == values["config"]["kafka"]["bootstrap_servers"]
        assert settings.exporter.host == settings.pipeline.metrics_host == "0.0.0.0"
        is_exporter = container["name"] == "exporter"
        port = settings.exporter.port if is_exporter else settings.pipeline.metrics_port
        assert container["ports"][0]["containerPort"] == port
        if container["name"] != "controller":
            assert not settings.policy.file
            assert not settings.policy.private_key_file


def test_values_reach_the_settings_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = one_of(manifests(scenario("monitoring")), "ConfigMap", "-plane")["data"]
    (tmp_path / "infoplane.yaml").write_text(data["infoplane.yaml"])
    monkeypatch.setenv("INFOPLANE_CONFIG", str(tmp_path / "infoplane.yaml"))
    settings = load_settings()
    assert settings.estimate.off == ("usable_accuracy_ratio",)
    assert settings.estimate.cadence == {"mutual_information_nats": 4}
    assert settings.exporter.series_cap == 1_000_000
    assert settings.watch.threshold == 8.5


def policies(objects: list[dict[str, Any]]) -> list[str]:
    return [
        one["data"]["policy.yaml"]
        for one in objects
        if one["kind"] == "ConfigMap" and "policy.yaml" in one["data"]
    ]


@pytest.mark.parametrize(("name", "mode"), [("enforce", "enforce"), ("monitoring", "dry_run")])
def test_the_controller_reads_the_rendered_policy(name: str, mode: str, tmp_path: Path) -> None:
    from infoplane.controller.policy import load_policy

    objects = manifests(scenario(name))
    (text,) = policies(objects)
    (tmp_path / "policy.yaml").write_text(text)
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.mode == yaml.safe_load(text)["mode"] == mode
    (container,) = dict(pods_by_component(objects))["controller"]["containers"]
    assert environment(container)["INFOPLANE_POLICY__FILE"] == "/etc/infoplane/policy.yaml"


def test_without_rules_there_is_no_policy() -> None:
    objects = manifests(scenario("minimal"))
    assert policies(objects) == []
    assert all("INFOPLANE_POLICY__FILE" not in environment(one) for one in containers(objects))
    one_rule = with_value(
        scenario("minimal"),
        "controller.policy.rules",
        [{"name": "save", "when": {"verdict": {}}, "action": "checkpoint"}],
    )
    (text,) = policies(manifests(one_rule))
    assert yaml.safe_load(text)["mode"] == "dry_run"


def test_pods_restart_when_settings_change() -> None:
    def checksum(values: dict[str, Any]) -> set[str]:
        return {
            one["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for one, _ in deployments(manifests(values))
        }

    minimal = scenario("minimal")
    assert len(checksum(minimal)) == 1
    assert checksum(minimal) == checksum(minimal)
    assert checksum(minimal) != checksum(with_value(minimal, "config.watch", {"threshold": 9.0}))


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("colector", {}, "colector"),
        ("collector.replica", 2, "/collector"),
        ("config.watch", {"treshold": 5.0}, "/config/watch"),
        ("config.exporter.port", "http", "/config/exporter/port"),
        ("config.assemble", {"deadline_s": 0}, "/config/assemble/deadline_s"),
        ("config.version", 2, "/config/version"),
        ("image.tag", "latest", "/image/tag"),
        ("image.digest", "sha256:abc", "/image/digest"),
        ("controller.policy.mode", "force", "/controller/policy/mode"),
        ("controller.signing.privateKey", "x", "/controller/signing"),
        ("runAsUser", 0, "/runAsUser"),
        ("monitoring.dashboards", "yes", "/monitoring/dashboards"),
        ("collector.resources.limits", None, "/collector/resources"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(path: str, value: Any, shown: str) -> None:
    wrong = with_value(scenario("minimal"), path, value)
    with pytest.raises(Refused, match=shown):
        render(wrong)
    assert any(shown in message for message in lint(wrong))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("config.kafka.bootstrap_servers", "", "bootstrap_servers is empty: name the brokers"),
        ("config.policy", {"file": "/x"}, "use controller.policy"),
        ("config.exporter.port", 0, "a fixed port"),
        ("config.pipeline.metrics_port", 0, "the probes of collector and controller need it"),
        ("controller.policy.mode", "enforce", "there is nothing to enforce"),
        ("controller.policy", {"mode": "enforce", "rules": [{}]}, "commands must be signed"),
    ],
)
def test_what_no_schema_can_say_is_refused_clearly(path: str, value: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        render(with_value(scenario("minimal"), path, value))


def test_the_defaults_alone_are_refused() -> None:
    with pytest.raises(Refused, match="bootstrap_servers is empty"):
        render({})


# -------------------------------------------------------------------- secrets


def test_the_signing_key_is_mounted_by_reference_and_nowhere_else() -> None:
    objects = manifests(scenario("enforce"))
    assert not [one for one in objects if one["kind"] == "Secret"]
    for deployment, pod in deployments(objects):
        secrets = [one for one in pod["volumes"] if "secret" in one]
        if not deployment["metadata"]["name"].endswith("-controller"):
            assert secrets == []
            continue
        (volume,) = secrets
        assert volume["secret"] == {
            "secretName": "infoplane-signing",
            "defaultMode": 0o440,
            "items": [{"key": "ed25519.pem", "path": "private.pem"}],
        }
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        (container,) = pod["containers"]
        (mount,) = (one for one in container["volumeMounts"] if one["name"] == volume["name"])
        assert mount["readOnly"] is True
        file = environment(container)["INFOPLANE_POLICY__PRIVATE_KEY_FILE"]
        assert file == f"{mount['mountPath']}/private.pem"


def test_without_a_secret_no_key_is_named() -> None:
    text = "".join(render(scenario("minimal")).values())
    assert "PRIVATE_KEY" not in text
    assert "secretName" not in text


# ----------------------------------------------------------------- monitoring


def test_operators_objects_are_off_by_default() -> None:
    kinds = {one["kind"] for one in manifests(scenario("minimal"))}
    assert kinds == {"ConfigMap", "Deployment", "Service", "ServiceAccount"}


@pytest.mark.parametrize(
    ("switch", "kinds"),
    [
        ("serviceMonitor", {"ServiceMonitor", "PodMonitor"}),
        ("prometheusRule", {"PrometheusRule"}),
        ("dashboards", {"ConfigMap"}),
    ],
)
def test_each_switch_adds_its_own_objects(switch: str, kinds: set[str]) -> None:
    before = manifests(scenario("minimal"))
    after = manifests(with_value(scenario("minimal"), f"monitoring.{switch}", True))
    assert {one["kind"] for one in after if one not in before} == kinds


def test_prometheus_finds_all_three_services() -> None:
    objects = manifests(scenario("monitoring"))
    monitor, pods = one_of(objects, "ServiceMonitor"), one_of(objects, "PodMonitor")
    service = one_of(objects, "Service")
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    (among,) = pods["spec"]["selector"]["matchExpressions"]
    scraped = [
        pod["containers"][0]
        for one, pod in deployments(objects)
        if one["spec"]["template"]["metadata"]["labels"][among["key"]] in among["values"]
    ]
    assert [container["name"] for container in scraped] == ["collector", "controller"]
    (endpoint,) = pods["spec"]["podMetricsEndpoints"]
    assert all(container["ports"][0]["name"] == endpoint["port"] for container in scraped)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_rules_and_dashboards_arrive_unchanged() -> None:
    """Their own braces, such as {{layer}}, must not be taken for Helm's."""
    objects = manifests(scenario("monitoring"))
    rules = yaml.safe_load((ROOT / "dashboards/rules/infoplane.rules.yaml").read_text())
    assert one_of(objects, "PrometheusRule")["spec"] == rules
    for path in (ROOT / "dashboards/json").glob("*.json"):
        suffix = f"-dashboard-{path.stem.removeprefix('infoplane-')}"
        board = one_of(objects, "ConfigMap", suffix)
        assert json.loads(board["data"][path.name]) == json.loads(path.read_text())
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert len(board["data"][path.name]) < 1 << 20


# ---------------------------------------------------------------------- notes


def test_notes_say_how_to_look_and_to_attach(values: dict[str, Any]) -> None:
    notes = render(values)[NOTES]
    assert f"service/{one_of(manifests(values), 'Service')['metadata']['name']}" in notes
    assert RELEASE in notes
    servers = values["config"]["kafka"]["bootstrap_servers"]
    assert f"INFOPLANE_KAFKA__BOOTSTRAP_SERVERS={servers}\n" in notes
    enforces = values.get("controller", {}).get("policy", {}).get("mode") == "enforce"
    assert ("WARNING" in notes) is enforces


def test_topics_are_created_unless_switched_off() -> None:
    inits = {
        name: [
            container["args"]
            for _, pod in deployments(manifests(scenario(name)))
            for container in pod.get("initContainers", [])
        ]
        for name in SCENARIOS
    }
    assert inits["enforce"] == []
    assert inits["monitoring"] == [["topics", "create", "--replication", "3"]] * 2
    assert "infoplane topics create" in render(scenario("enforce"))[NOTES]
