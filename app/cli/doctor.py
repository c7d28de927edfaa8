"""`doctor`: is everything well, and what to do where it is not."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from openchat_local.app.wording import counted, write_json

if TYPE_CHECKING:
    from openchat_local.app.doctor.finding import Finding

INDENT = 19
_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("PROBLEM", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for a report.")
@click.option("--verify", is_flag=True, help="Read installed models whole and check their hashes.")
@click.option(
    "--speed/--no-speed", default=True, help="Let the model write for a few seconds (the default)."
)
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, verify: bool, speed: bool) -> None:
    """Examine this installation, and say what to do about what is wrong.

    Nothing is changed, and no connection is opened. The exit status is 1 when there is a
    problem; notes are none.
    """
    from openchat_local.app.doctor.examination import examine

    findings = examine(verify=verify, speed=speed)
    told = list(findings) if as_json else _tell(findings)
    problems = [finding for finding in told if finding.status == "problem"]
    if as_json:
        write_json(_report(told), indent=2)
    else:
        _sum_up(told, problems)
    if problems:
        ctx.exit(1)


def _tell(findings: Iterable[Finding]) -> list[Finding]:
    from openchat_local.app.printable import printable

    told = []
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for finding in findings:
        mark, colour = _MARKS[finding.status]
        about = f"{finding.about:10}"
        text = printable(finding.text)
        lines = textwrap.wrap(text, max(width - INDENT, 20), break_on_hyphens=False) or [""]
        click.echo(f"{click.style(f'{mark:8}', fg=colour)}{about} {lines[0]}")
        for line in lines[1:]:
            click.echo(" " * INDENT + line)
        if finding.advice:  # in one line, so that a command in it can be copied
            click.echo(f"{'':{INDENT}}→ {printable(finding.advice)}")
        told.append(finding)
    return told


def _sum_up(told: Sequence[Finding], problems: Sequence[Finding]) -> None:
    notes = sum(finding.status == "note" for finding in told)
    if problems:
        click.echo(f"\n{counted(len(problems), 'problem')}: do what the arrows say, and ask again.")
    elif notes:
        click.echo(f"\nAll works; {counted(notes, 'note')} above.")
    else:
        click.echo("\nAll is well.")


def _report(told: Sequence[Finding]) -> dict[str, object]:
    from openchat_local import __version__

    return {
        "version": __version__,
        "problems": sum(finding.status == "problem" for finding in told),
        "findings": [asdict(finding) for finding in told],
    }
