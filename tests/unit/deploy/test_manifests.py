"""Rule: what deploys the product says what the product understands: fields, ports, settings, commands."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from ray.serve.schema import ServeDeploySchema

from router.cli.serve import serve
from router.config import RouterConfig, load_config
from router.ray import app
from router.ray.settings import REQUIRED
from router.state.redis import PASSWORD_FILE
from workers.cli.join import join

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(one for one in (DEPLOY / "kubernetes").glob("*.yaml") if one.name != "kustomization.yaml")
DOCKERFILES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
KUBERNETES = "1.33"


def read(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def everything() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from read(path)


def of_kind(kind: str, name: str = "") -> dict[str, Any]:
    return next(one for one in everything() if one["kind"] == kind and name in ("", one["metadata"]["name"]))


def options_of(command: Any) -> set[str]:
    app = typer.Typer()
    app.command()(command)
    return {option for parameter in typer.main.get_command(app).params for option in parameter.opts}


def spoken_to(words: list[str]) -> None:
    """The command exists, and every flag is one of its own."""
    assert words[0].endswith("allsorts")
    known = options_of({"serve": serve, "join": join}[words[1]])
    assert {word for word in words[2:] if word.startswith("--")} <= known


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_is_what_kubernetes_understands(path: Path) -> None:
    """By its own schemas, strictly; kinds of others' are left to their definitions."""
    for one in read(path):
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "allsorts"
        if one["apiVersion"] != "ray.io/v1":
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_the_kustomization_names_every_manifest() -> None:
    """None is forgotten, none is missing."""
    (found,) = read(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert sorted(found["resources"]) == [path.name for path in MANIFESTS]


def serve_configs() -> dict[str, dict[str, Any]]:
    (plain,) = read(DEPLOY / "serve.yaml")
    return {"serve.yaml": plain, "rayservice.yaml": yaml.safe_load(of_kind("RayService")["spec"]["serveConfigV2"])}


@pytest.mark.parametrize("name", ["serve.yaml", "rayservice.yaml"])
def test_serve_understands_its_configuration(name: str) -> None:
    """Serve's own schema; what it imports is there, and its deployment is the one that is configured."""
    config = ServeDeploySchema.model_validate(serve_configs()[name])
    (one,) = config.applications
    assert one.import_path == f"{app.__name__}:{app.application.__name__}"
    assert [deployment.name for deployment in one.deployments] == [app.Router.name]
    assert one.deployments[0].max_ongoing_requests == app.MAX_ONGOING_REQUESTS


def routers() -> dict[str, RouterConfig]:
    """The configurations as the router reads them."""
    written = Path(__file__).parent / "router.toml"
    try:
        written.write_text(of_kind("ConfigMap")["data"]["router.toml"])
        return {"compose": load_config(DEPLOY / "compose" / "router.toml"), "kubernetes": load_config(written)}
    finally:
        written.unlink(missing_ok=True)


def test_ports_are_those_the_router_listens_on() -> None:
    """Services, pods and probes in Kubernetes; what compose publishes."""
    configs = routers()
    in_pod = configs["kubernetes"]
    joins = {in_pod.grpc.install_port, in_pod.grpc.enrol_port, in_pod.grpc.port}
    assert {one["port"] for one in of_kind("Service", "sessions")["spec"]["ports"]} == joins
    assert [one["port"] for one in of_kind("Service", "router")["spec"]["ports"]] == [in_pod.http.port]
    head = of_kind("RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {one["containerPort"] for one in head["ports"]} == joins | {in_pod.http.port, in_pod.http.health_port}
    for probe in ("readinessProbe", "livenessProbe"):
        assert head[probe]["httpGet"]["port"] == in_pod.http.health_port
    published = compose()["services"]["router"]["ports"]
    here = configs["compose"].grpc
    assert {int(one.split(":")[1]) for one in published} == {here.install_port, here.enrol_port, here.port}


def test_ray_is_started_with_what_the_router_needs() -> None:
    """Else `allsorts serve` would refuse the cluster, and Serve would be slow."""
    head = of_kind("RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    given = {one["name"]: one["value"] for one in head["env"]}
    assert {name: given.get(name) for name in REQUIRED} == dict(REQUIRED)
    assert PASSWORD_FILE in given


def compose() -> dict[str, Any]:
    (found,) = read(DEPLOY / "compose" / "compose.yaml")
    return found


def test_compose_declares_what_its_services_use() -> None:
    """Secrets, networks, volumes, images and files beside it."""
    found, folder = compose(), DEPLOY / "compose"
    for name, service in found["services"].items():
        assert set(service.get("secrets", [])) <= set(found["secrets"]), name
        assert set(service["networks"]) <= set(found["networks"]), name
        assert set(service.get("depends_on", {})) <= set(found["services"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if not volume.startswith("$") else ""
            assert not source or source in found["volumes"] or (folder / source).exists(), volume
        if "build" in service:
            assert (folder / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    assert found["networks"]["back"] == {"internal": True}
    assert "ports" not in found["services"]["redis"]
    assert PASSWORD_FILE in found["services"]["router"]["environment"]


def test_commands_are_the_products_own() -> None:
    """In compose, Kubernetes and the unit of systemd."""
    for service in ("router", "worker"):
        spoken_to(compose()["services"][service]["command"])
    for one in everything():
        if one["kind"] == "StatefulSet" and one["metadata"]["name"] != "redis":
            spoken_to(one["spec"]["template"]["spec"]["containers"][0]["command"])
    unit = (DEPLOY / "systemd" / "allsorts-router.service").read_text()
    found = re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    assert found is not None
    spoken_to(shlex.split(found[1]))


def test_no_secret_stands_on_a_command_line() -> None:
    """Passwords and tokens come from files."""
    for path in [*MANIFESTS, DEPLOY / "compose" / "compose.yaml"]:
        text = path.read_text()
        assert "--requirepass" not in text
        assert "redis://:" not in text
        assert all(one.startswith('"@/') for one in re.findall(r"--token, (\S+)", text))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_made_of_what_is_there(path: Path) -> None:
    """By a linter; and everything copied exists, a lock that is installed among it."""
    lint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([lint, path], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout
    for words in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_vllms_image_is_of_the_pinned_version() -> None:
    """The one that pyproject.toml names."""
    pinned = re.search(r"vllm==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert pinned is not None
    assert f"vllm-openai:v{pinned[1]}" in (DEPLOY / "images" / "vllm.Dockerfile").read_text()
