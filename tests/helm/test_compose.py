"""docker-compose.yaml as far as it can be looked at without Docker: its keys, its files, and what Prometheus says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICE_KEYS = {
    "command",
    "depends_on",
    "environment",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "ports",
    "volumes",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yaml").read_text()))


@pytest.fixture
def containers(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, PurePosixPath, bool]]:
    """Yield (source, target, whether read-only)."""
    for one in service.get("volumes", []):
        source, target, *options = one.split(":")
        yield source, PurePosixPath(target), options == ["ro"]


def test_only_keys_that_compose_knows(compose: dict[str, Any]) -> None:
    assert compose.keys() == {"name", "services", "volumes"}
    assert compose["services"].keys() == {"kafka", "prometheus", "grafana"}
    for service in compose["services"].values():
        assert service.keys() <= SERVICE_KEYS
        assert set(service.get("depends_on", [])) <= compose["services"].keys()
        # Numbers and booleans of YAML are not what an environment holds.
        assert all(isinstance(value, str) for value in service.get("environment", {}).values())


def test_images_are_pinned_and_ports_are_local(containers: dict[str, dict[str, Any]]) -> None:
    for service in containers.values():
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service["ports"])


def test_every_mount_exists(compose: dict[str, Any]) -> None:
    named = set()
    for service in compose["services"].values():
        for source, _, is_read_only in mounts(service):
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert is_read_only
            else:
                named.add(source)
    assert named == compose["volumes"].keys()


def test_kafka_listens_where_it_says(containers: dict[str, dict[str, Any]]) -> None:
    def pairs(text: str, separator: str) -> dict[str, str]:
        return dict(one.split(separator, 1) for one in text.split(","))

    given = containers["kafka"]["environment"]
    listeners = pairs(given["KAFKA_LISTENERS"], "://")
    advertised = pairs(given["KAFKA_ADVERTISED_LISTENERS"], "://")
    assert pairs(given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"], ":").keys() == listeners.keys()
    assert advertised.keys() == listeners.keys() - {given["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert given["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    for name, address in advertised.items():
        assert listeners[name] == f":{address.rpartition(':')[2]}"
    voter, _, address = given["KAFKA_CONTROLLER_QUORUM_VOTERS"].partition("@")
    assert voter == given["KAFKA_NODE_ID"]
    hostname = containers["kafka"]["hostname"]
    assert address == hostname + listeners[given["KAFKA_CONTROLLER_LISTENER_NAMES"]]
    # The services' default.
    assert advertised["HOST"] == "127.0.0.1:9092"
    assert containers["kafka"]["ports"] == ["127.0.0.1:9092:9092"]
    data = {source: str(target) for source, target, _ in mounts(containers["kafka"])}
    assert data == {"kafka": given["KAFKA_LOG_DIRS"]}


def test_prometheus_accepts_its_configuration(
    containers: dict[str, dict[str, Any]],
    require: Callable[[str, bool, str], None],
    tmp_path: Path,
) -> None:
    """The mounts are laid out as in the container, so that relative paths are checked too."""
    require("promtool", shutil.which("promtool") is not None, "promtool is not on PATH")
    for source, target, _ in mounts(containers["prometheus"]):
        inside = tmp_path / target.relative_to("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, inside, dirs_exist_ok=True)
        elif (ROOT / source).is_file():
            shutil.copy(ROOT / source, inside)
    (flag,) = (one for one in containers["prometheus"]["command"] if "--config.file=" in one)
    config = tmp_path / PurePosixPath(flag.partition("=")[2]).relative_to("/")
    done = subprocess.run(
        ["promtool", "check", "config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "infoplane.rules.yaml" in done.stdout


def test_prometheus_scrapes_the_host(containers: dict[str, dict[str, Any]]) -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())
    targets = [
        target
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert targets == [f"host.docker.internal:{port}" for port in (9464, 9465, 9466)]
    assert containers["prometheus"]["extra_hosts"] == ["host.docker.internal:host-gateway"]


def test_grafana_finds_its_source_and_dashboards(containers: dict[str, dict[str, Any]]) -> None:
    provisioning = ROOT / "deploy/compose/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (port,) = containers["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port.rpartition(':')[2]}"
    # The dashboards' variable takes the default source.
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((provisioning / "dashboards/infoplane.yaml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    places = {str(target): ROOT / source for source, target, _ in mounts(containers["grafana"])}
    dashboards = places[provider["options"]["path"]]
    assert list(dashboards.glob("*.json"))
    home = PurePosixPath(
        containers["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
    assert (places[str(home.parent)] / home.name).is_file()


def test_the_image_holds_what_the_chart_expects() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\d+):\d+$", text, re.M)
    values = yaml.safe_load((ROOT / "helm/infoplane/values.yaml").read_text())
    assert int(user) == values["runAsUser"]
    assert 'ENTRYPOINT ["infoplane"]' in text
    assert all(":latest" not in line for line in text.splitlines())


def test_what_the_wheel_needs_reaches_the_builder() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    text = (ROOT / "pyproject.toml").read_text()
    (packages,) = re.findall(r"^packages = \[(.*)\]$", text, re.M)
    roots = {one.strip(' "').partition("/")[0] for one in packages.split(",")}
    assert allowed == roots | {"pyproject.toml", "README.md", "LICENSE"}
