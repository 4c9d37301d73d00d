"""The configuration: what is wrong in it is one clear line, before anything starts."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router.cli.main import app
from router.config import load_config
from router.configured import admission_limits, check_config
from router.domain.ids import Tenant
from router.errors import ConfigError
from router.http.dialects.shared.model_name import default_floors
from router.ray import settings as serve_settings
from router.scheduling.placement.policies import POLICIES


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"http": {"port": 99999}}, "'http.port' is 99999: expected at most 65535"),
        ({"http": {"port": -5}}, "'http.port' is -5: expected at least 0"),
        ({"http": {"stall_s": 0}}, "'http.stall_s' is 0: expected above 0"),
        ({"http": {"host": ""}}, "'http.host' is ''"),
        ({"http": {"port": "x"}}, "'http.port' is 'x': expected int, got str"),
        ({"grpc": {"port": 65535}, "replicas": 2}, "the last would listen on 65536"),
        ({"replicas": 0}, "'replicas' is 0: expected at least 1"),
        ({"log_level": "zz"}, "'log_level' is 'zz': there are debug, info"),
        ({"placement": {"policy": "round_robbin"}}, "did you mean round_robin"),
        ({"placement": {"policy": "zz"}}, "there are cost, least_request"),
        ({"placement": {"record_sample": 1.5}}, "'placement.record_sample' is 1.5: expected at most 1"),
        ({"placement": {"lambda_slo": float("nan")}}, "placement.lambda_slo"),
        ({"admission": {"patience_s": float("inf")}}, "'admission.patience_s' is inf: write a finite number"),
        ({"admission": {"queue_limit": 0}}, "'admission.queue_limit' is 0"),
        ({"admission": {"tenants": {"clinic": {"wight": 2}}}}, "did you mean 'admission.tenants.clinic.weight'?"),
        ({"admission": {"default_tenant": {"weight": 0}}}, "'admission.default_tenant.weight' is 0: expected above 0"),
        ({"admission": {"tenants": {"clinic": {"weight": -1}}}}, "admission.tenants"),
    ],
)
def test_what_is_out_of_bounds_is_one_line_with_key_value_and_bounds(given: dict[str, Any], says: str) -> None:
    """Nothing has started yet when it is read."""
    with pytest.raises(ConfigError) as refusal:
        check_config(load_config(None, given))
    assert says in refusal.value.message
    assert "\n" not in refusal.value.message


def test_a_section_that_is_no_table_is_told_so(tmp_path: Path) -> None:
    """Flags are laid over it, and must not stumble."""
    path = tmp_path / "allsorts.toml"
    path.write_text("http = 3\n")
    with pytest.raises(ConfigError, match=r"write \[http\]"):
        load_config(path, {"http": {"port": 1}})


def test_a_command_line_that_is_out_of_bounds_ends_before_anything_starts() -> None:
    """Under Ray it once took 21 seconds and a traceback."""
    for arguments in (["--policy", "zz"], ["--replicas", "0"], ["--port", "99999"], ["--log-level", "zz"]):
        done = CliRunner().invoke(app, ["serve", *arguments])
        assert isinstance(done.exception, ConfigError), done.output


def test_ports_and_replicas_that_cannot_be_had_are_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each replica needs a session port; without Ray there is one replica, and workers must not look for more."""
    monkeypatch.setattr(serve_settings, "port_taken", lambda _host, port: port == 8101)
    arguments = ["serve", "--port", "8000", "--grpc-port", "8100", "--state-dir", str(tmp_path), "--replicas", "2"]
    done = CliRunner().invoke(app, arguments)
    assert "port 8101 on 127.0.0.1 is taken" in str(done.exception)
    done = CliRunner().invoke(app, [*arguments, "--without-ray"])
    assert "--without-ray is one router replica" in str(done.exception)


def test_serve_names_its_policies_in_its_help() -> None:
    """Whoever wants another finds them where the flag is."""
    text = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "400"}).output
    assert all(name in text for name in POLICIES)


def test_a_floor_that_nothing_can_be_compared_with_is_refused() -> None:
    """Before the router starts, naming the model."""
    with pytest.raises(ConfigError, match=r"http.quality_floors, model 'm'"):
        default_floors(load_config(None, {"http": {"quality_floors": {"m": "q9_z"}}}).http.quality_floors)


def test_a_tenants_share_is_configured_by_the_name_of_its_keys(tmp_path: Path) -> None:
    """Weight, waiting requests and tokens per minute; all others come under the default."""
    path = tmp_path / "allsorts.toml"
    path.write_text(
        "[admission]\nlongest_wait_s = 5\ndepth_per_slot = inf\n"
        "[admission.default_tenant]\nqueue_limit = 7\n"
        "[admission.tenants.clinic]\nweight = 2\ntokens_per_minute = 1000\n"
    )
    limits = admission_limits(load_config(path).admission)
    assert limits.longest_wait_s == 5.0
    clinic, other = limits.of(Tenant("clinic")), limits.of(Tenant("anybody"))
    assert (clinic.weight, clinic.queue_limit, clinic.tokens_per_minute) == (2.0, None, 1000.0)
    assert (other.weight, other.queue_limit, other.tokens_per_minute) == (1.0, 7, None)
