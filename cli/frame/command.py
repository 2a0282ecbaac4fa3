"""How a command is declared: its own parameters here, the ones that all commands share added to them.

A command is a function whose first parameter is a `Call`. `--town`, `-o` and `--debug` are added
to every command and to every group, so that they may stand before or after the subcommand.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Concatenate, ParamSpec

import typer

from cli.frame.options import directory
from cli.session import agent_rights

Arguments = ParamSpec("Arguments")
Body = Callable[Concatenate["Call", Arguments], int | None]


class OutputFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class Call:
    """What every command is told besides its own arguments."""

    town: Path | None = None
    """the directory after --town"""
    output: OutputFormat | None = None
    debug: bool = False

    @property
    def json(self) -> bool:
        return self.output is OutputFormat.JSON

    def nearer(self, town: Path | None, output: OutputFormat | None, debug: bool) -> Call:
        """The same call with what was said closer to the command, which wins."""
        return Call(town or self.town, output or self.output, debug or self.debug)


TownOption = Annotated[
    Path | None,
    typer.Option(
        "--town",
        parser=directory,
        metavar="DIR",
        help="The town; else GT_TOWN, else the nearest parent with a town.toml.",
    ),
]
OutputOption = Annotated[
    OutputFormat | None, typer.Option("-o", "--output", metavar="text|json", help="Form of the result.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]

_SHARED = [
    inspect.Parameter("town", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=TownOption),
    inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OutputOption),
    inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption),
]


def new_app(help: str, *, cls: type[typer.core.TyperGroup] | None = None) -> typer.Typer:
    """A group of commands that takes the shared options itself too."""
    app = _bare_app(help, cls)

    @app.callback()
    def shared(
        ctx: typer.Context, town: TownOption = None, output: OutputOption = None, debug: DebugOption = False
    ) -> None:
        share(ctx, town, output, debug)

    return app


def new_program(help: str, *, cls: type[typer.core.TyperGroup] | None = None) -> typer.Typer:
    """The outermost group of a program: it also tells its version."""
    app = _bare_app(help, cls)

    @app.callback()
    def shared(
        ctx: typer.Context,
        town: TownOption = None,
        output: OutputOption = None,
        debug: DebugOption = False,
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        share(ctx, town, output, debug)

    return app


def _bare_app(help: str, cls: type[typer.core.TyperGroup] | None) -> typer.Typer:
    return typer.Typer(
        help=help,
        cls=cls,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _print_version(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{ctx.info_name} {version('gastown-temporal')}")
        raise typer.Exit


def share(ctx: typer.Context, town: Path | None, output: OutputFormat | None, debug: bool) -> None:
    """Remember a group's shared options for the commands below it."""
    ctx.obj = _call(ctx).nearer(town, output, debug)


def command(
    app: typer.Typer, name: str, *, hidden: bool = False, any_options: bool = False
) -> Callable[[Body[Arguments]], Body[Arguments]]:
    """Register a function `(call, …) -> exit code or None` under `name`; its docstring is the help.

    Args:
        any_options: take options that the function does not name as words.
    """
    settings = {"ignore_unknown_options": True} if any_options else {}

    def register(body: Body[Arguments]) -> Body[Arguments]:
        app.command(name, hidden=hidden, context_settings=settings)(_with_shared_options(body))
        return body

    return register


def _with_shared_options(body: Callable[..., int | None]) -> Callable[..., int | None]:
    def run(ctx: typer.Context, *, town: Path | None, output: OutputFormat | None, debug: bool, **own: Any) -> int:
        agent_rights.require_allowed(ctx.command_path)
        return body(_call(ctx).nearer(town, output, debug), **own) or 0

    own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters = [context, *keyword_only, *_SHARED]
    # typer reads a command's parameters from these two.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = body.__doc__
    return run


def _call(ctx: typer.Context) -> Call:
    return ctx.obj if isinstance(ctx.obj, Call) else Call()


@functools.cache
def group_of(app: typer.Typer) -> typer.core.TyperGroup:
    """The commands of `app`, made once in a process."""
    return typer.main.get_group(app)


class DefaultCommandGroup(typer.core.TyperGroup):
    """A group whose first word may be something other than a subcommand: then `default` is meant."""

    default = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not self._names_subcommand(args):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def _names_subcommand(self, args: list[str]) -> bool:
        words = iter(args)
        for word in words:
            if word in {"-h", "--help"}:
                return True
            if word in {"-o", "--output", "--town"}:
                next(words, None)
            elif word.startswith(("-o", "--output=", "--town=")) or word == "--debug":
                continue
            else:
                return word in self.commands
        return True


class LazyGroup(typer.core.TyperGroup):
    """The commands of `modules`, imported when they are named, so that `--help` costs next to nothing."""

    modules: ClassVar[Mapping[str, tuple[str, str]]]
    """command: the module whose `app` has it, and its line in `--help`"""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.modules:
            return None
        module = importlib.import_module(self.modules[cmd_name][0])
        return group_of(module.app).commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.modules and not args[0].startswith("-"):
            near = get_close_matches(args[0], self.modules, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.modules.items()])
