"""The command `sum3dcam health`: the checks of /live and /ready for a person, or for a probe that runs a command."""

import json
from pathlib import Path

import click

from sum3dcam.serving import health, torchserve
from sum3dcam.serving.health import CANARY_SECONDS, Check


@click.command(context_settings={"show_default": True})
@click.option("--ready", "probe", flag_value="ready", default=True, help="Should it be sent requests?")
@click.option("--live", "probe", flag_value="live", help="Should it be left alone, and not be restarted?")
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("build/serve"), help="The server's own.")
@click.option("--timeout", type=float, default=CANARY_SECONDS, help="Seconds that a canary may take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as GET /ready and /live answer.")
@click.pass_context
def health_command(context: click.Context, *, probe: str, run_dir: Path, timeout: float, as_json: bool) -> None:
    """Ask the server on this machine that was started from RUN_DIR whether it is ready, or alive.

    --ready asks for the state of its process and its workers, which version they serve, and sends a canary over both
    transports; --live asks only whether a restart would help. The exit code is 0 if all checks passed, else 1.
    """
    checks = _checks(probe, run_dir=run_dir, timeout_seconds=timeout)
    if as_json:
        click.echo(json.dumps(health.summary(checks)))
    else:
        for check in checks:
            click.echo(f"{'ok' if check.passed else 'FAILED':6}  {check.name}: {check.says}")
    context.exit(0 if all(check.passed for check in checks) else 1)


def _checks(probe: str, *, run_dir: Path, timeout_seconds: float) -> tuple[Check, ...]:
    server = torchserve.load(run_dir)
    if server is None:
        return (Check("process", False, f"no server runs from {run_dir}"),)
    if probe == "live":
        return health.live_checks(server)
    return health.ready_checks(
        server, ask_canary=lambda workers: health.ask_canaries(server, timeout_seconds=timeout_seconds)
    )
