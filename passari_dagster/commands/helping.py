"""How `--help` reads, for all commands at once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


def reflowed(text: str) -> str:
    """Each paragraph in one line: lines that were broken for the source would be broken once more by the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)))


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    """A flag takes no value: none is to be shown beside it."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
    return params


class Command(TyperCommand):
    """One command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments, `--help` among them."""
        return _without_types_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """The program, whose commands have options of their own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, `--help` among them."""
        return _without_types_of_flags(super().get_params(ctx))


class Program(typer.Typer):
    """Commands are told by their docstrings."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Make a function a command."""

        def registered(function: Any) -> Any:
            told = {"cls": Command, "help": reflowed(function.__doc__ or ""), **settings}
            return super(Program, self).command(name, **told)(function)

        return registered
