"""The command line. Commands are imported when called, so that `sum3dcam --help` answers at once."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from sum3dcam.errors import Sum3DCamError

# Name: where the click command is, and its line in the help. A new command is one line here.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "predict": ("sum3dcam.client.commands:predict", "Ask a server what happens in videos, and where it sees it."),
        "figure": (
            "sum3dcam.client.figure_command:figure",
            "Lay side by side how each layer and method explains a clip, in one picture.",
        ),
        "flow": (
            "sum3dcam.video.commands:flow_command",
            "Compute the optical flow of videos, to send to a flow model.",
        ),
        "health": (
            "sum3dcam.serving.health_command:health_command",
            "Ask the server on this machine whether it is ready, or alive.",
        ),
        "inspect": ("sum3dcam.export.commands:inspect_command", "Say what a checkpoint, an artefact or a network is."),
        "evaluate": (
            "sum3dcam.evaluation.commands:evaluate_command",
            "Measure accuracy and localisation of an artefact on a data set with ground truth.",
        ),
        "check": (
            "sum3dcam.evaluation.checks.commands:check_command",
            "Check that an artefact's maps depend on its weights, and its score on what they light up.",
        ),
        "train": (
            "sum3dcam.training.commands:train_command",
            "Fine-tune a network's gates, or all of it, on a data set; or train resnext-mini on the rendered actions.",
        ),
    }
)


class LazyGroup(click.Group):
    """A group of commands named in `COMMANDS`, each imported only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Sum3DCamError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sum3dcam")
def main() -> None:
    """Recognise actions in videos and show where and when the network sees them."""


if __name__ == "__main__":
    main()
