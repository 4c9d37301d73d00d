"""``allsorts loadtest``: locust with our users against any endpoint that speaks OpenAI's API; runs side by side."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from loadtest.locust.options import BadOptions, Options, check, flag
from loadtest.locust.report.run import BadRun

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
GRACE_S = 60.0
"""Beyond a run's own bounds, after which it is ended."""

_KEY = typer.Option(envvar="ALLSORTS_API_KEY", show_default=False, help="Sent as Bearer.")


def loadtest(
    url: Annotated[str, typer.Option(help="The endpoint, with or without /v1.")] = "http://127.0.0.1:8000",
    model: Annotated[str, typer.Option(help="Model to ask for; empty: the first that is listed.")] = "",
    workload: Annotated[
        str, typer.Option(help="azure-like, code-like, agent-like, json-extraction, mix, or a trace: .csv, .jsonl.")
    ] = "azure-like",
    shape: Annotated[str, typer.Option(help="steady, ramp (to the knee), spike, diurnal.")] = "steady",
    rate: Annotated[float, typer.Option(help="Requests a second; of a shape that changes, the least.")] = 1.0,
    peak: Annotated[float, typer.Option(help="The most: requests a second, or users in a closed loop.")] = 4.0,
    duration: Annotated[float, typer.Option(help="Seconds in which requests are offered.")] = 60.0,
    steps: Annotated[int, typer.Option(help="Of a ramp.")] = 6,
    closed: Annotated[int, typer.Option(help="Closed loop with so many users; 0: open loop.")] = 0,
    speed_up: Annotated[float, typer.Option(help="Play a trace so many times as fast.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed sends the same.")] = 1,
    scale: Annotated[float, typer.Option(help="Multiplies every length that is drawn.")] = 1.0,
    longest_prompt: Annotated[int, typer.Option(help="Tokens.")] = 12_000,
    longest_output: Annotated[int, typer.Option(help="Tokens.")] = 2_000,
    slo_ttft: Annotated[float, typer.Option(help="Seconds to the first token; 0: no target.")] = 2.0,
    slo_ttft_per_prompt_token: Annotated[float, typer.Option(help="Seconds added for each prompt token.")] = 0.001,
    slo_tpot: Annotated[float, typer.Option(help="Seconds per output token; 0: no target.")] = 0.1,
    slo_e2e: Annotated[float, typer.Option(help="Seconds to the end; 0: no target.")] = 0.0,
    tell_slo: Annotated[bool, typer.Option("--tell-slo", help="Send the targets along, to who knows `slo`.")] = False,
    deadline: Annotated[float, typer.Option(help="Seconds one request may take.")] = 300.0,
    drain: Annotated[float, typer.Option(help="Seconds waited for answers at the end.")] = 60.0,
    ignore_eos: Annotated[bool, typer.Option(help="Answers as long as drawn, where the endpoint can.")] = True,
    api_key: Annotated[str, _KEY] = "",
    label: Annotated[str, typer.Option(help="The run's name in reports.")] = "",
    out: Annotated[str, typer.Option(help="Folder of the run; default build/loadtest/WORKLOAD-SHAPE-TIME.")] = "",
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Generating processes; several: master and workers.")
    ] = 1,
    web_port: Annotated[
        int, typer.Option(help="Serve locust's own page here (loopback) and wait there; 0: no page.")
    ] = 0,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Load a server that is not this machine.")
    ] = False,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="No load: put runs side by side. Twice or more; repeats of one side with commas between."),
    ] = None,
) -> None:
    """Load an endpoint as its users would, and report how it did.

    Examples:
      allsorts loadtest --rate 2 --duration 60

      allsorts loadtest --url http://127.0.0.1:8080 --workload agent-like --scale 0.2

      allsorts loadtest --shape ramp --rate 0.5 --peak 8

      allsorts loadtest --workload azure_2023_conv.csv --speed-up 0.1 --duration 300

      allsorts loadtest --compare before1,before2 --compare after1,after2

    """
    if compare:
        _compare(compare, out)
        return
    options = Options(
        url=url.rstrip("/"), model=model, workload=workload, speed_up=speed_up, shape=shape, rate=rate, peak=peak,
        duration_s=duration, steps=steps, closed=closed, seed=seed, scale=scale, longest_prompt=longest_prompt,
        longest_output=longest_output, slo_ttft_s=slo_ttft, slo_ttft_per_prompt_token_s=slo_ttft_per_prompt_token,
        slo_tpot_s=slo_tpot, slo_e2e_s=slo_e2e, tell_slo=tell_slo, deadline_s=deadline, drain_s=drain,
        ignore_eos=ignore_eos, label=label, out=out, api_key=api_key,
    )  # fmt: skip
    if importlib.util.find_spec("locust") is None:
        _fail("locust is not installed here: pip install 'allsorts[loadtest]'")
    try:
        check(options, allow_remote=allow_remote)
    except BadOptions as error:
        _fail(str(error))
    raise typer.Exit(run_locust(options, processes=processes, web_port=web_port, allow_remote=allow_remote))


def run_locust(
    options: Options, *, processes: int = 1, web_port: int = 0, allow_remote: bool = False, quiet: bool = False
) -> int:
    """Locust in a process of its own (gevent changes the one it runs in); its exit status, 0 when the run was made."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", options.url, "--only-summary"]
    command += ["--loglevel", "WARNING", "--exit-code-on-error", "0"]
    for name in options.__struct_fields__:
        if name not in ("url", "api_key"):
            command += [f"{flag(name)}={getattr(options, name)}"]
    command += ["--allow-remote"] if allow_remote else []
    command += ["--processes", str(processes), "--master-bind-host", "127.0.0.1"] if processes > 1 else []
    command += ["--web-host", "127.0.0.1", "--web-port", str(web_port)] if web_port else ["--headless"]
    longest_s = options.duration_s + options.drain_s + options.deadline_s + GRACE_S
    environment = {**os.environ, "ALLSORTS_API_KEY": options.api_key}
    output = subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, env=environment, stdout=output) as process:
        try:
            return process.wait(None if web_port else longest_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            _fail(f"the load generator was not done after {longest_s:.0f} s and was ended")
        except KeyboardInterrupt:
            return process.wait(GRACE_S)


def _compare(sides: list[str], out: str) -> None:
    from loadtest.locust.report.compare import compare_runs

    try:
        typer.echo(
            compare_runs(
                [[Path(run) for run in side.split(",")] for side in sides], Path(out or "build/loadtest/compare")
            )
        )
    except BadRun as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"allsorts loadtest: {message}", err=True)
    raise typer.Exit(2)
