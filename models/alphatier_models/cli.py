"""The `alphatier` command: finds the packages' sub-commands and loads only the one that is asked for."""

import sys
from importlib.metadata import EntryPoint, entry_points, version

import click

COMMANDS_GROUP = "alphatier.commands"

# Shown by `alphatier --help`, so that help needs none of the packages behind the commands.
SUMMARIES = {
    "serve": "Serve a family behind OpenAI's API, a tier chosen by each request.",
    "keys": "API keys of the gateway: who may ask, which tiers, how much.",
    "ask": "Ask a running gateway a question, at one tier or at all of them.",
    "explain": "Explain one request from the gateway's log: why this tier, and what came.",
    "family": "Make a family of what exists, show, check and change it, blend its tiers.",
    "train": "Train a family from a recipe: base, one tier an alpha, evaluation, report.",
    "sweep": "Train variants of a recipe over one base, with several seeds, and compare them.",
    "problems": "Show what data sets hold, and look for evaluation problems in training ones.",
    "evaluate": "Measure accuracy and tokens of a family's tiers on held-out problems.",
    "baseline": "Train what tiers are compared with: SFT on the shortest correct responses.",
    "report": "Write the report of a family: one HTML page, its plots as PNG.",
    "router": "Train what lets `auto` choose a tier by the prompt, and measure it.",
    "choose": "Propose which tiers a family offers, by an accuracy floor or a share of tokens.",
}


class LazyGroup(click.Group):
    """A click group whose commands are entry points, imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they are explained."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command; None when there is no such command."""
        found = [entry for entry in entry_points(group=COMMANDS_GROUP) if entry.name == cmd_name]
        return _load(found[0]) if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


def _load(entry: EntryPoint) -> click.Command:
    command = entry.load()
    assert isinstance(command, click.Command)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("alphatier"), prog_name="alphatier")
def main() -> None:
    """One reasoning model, a family of efficiency tiers.

    \b
    Serve the shipped family and ask it the same question at every tier:
      alphatier serve
      alphatier ask --compare "What is 17 + 25 - 8?"

    Every command explains itself: alphatier COMMAND --help
    """


if __name__ == "__main__":
    sys.exit(main())
