"""`serve`: the model and its adapters for other programs, over HTTP as OpenAI's."""

from __future__ import annotations

import os
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.options import model_options, sampling_options, take_overrides
from openchat_local.app.cli.serve_web import PACKAGES, announce_window, windows_of
from openchat_local.app.printable import one_line
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.cli.serve_web import Web
    from openchat_local.app.server.guard import Door
    from openchat_local.app.server.running import Place
    from openchat_local.app.server.starting import Wishes
    from openchat_local.app.settings.model import Settings

KEY_VARIABLE = "OPENCHAT_LOCAL_API_KEY"
_ANY = ("0.0.0.0", "::")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: a free one."
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Keys that clients must show, one a line (also: {KEY_VARIABLE}).",
)
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="Answer to this name too; repeatable."
)
@click.option(
    "--allow-origin", multiple=True, metavar="URL", help="Let pages of this site ask; repeatable."
)
@click.option("--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate.")
@click.option("--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="And its key.")
@click.option(
    "--waiting",
    type=click.IntRange(0, 10_000),
    default=32,
    show_default=True,
    help="Requests that may wait for their turn.",
)
@click.option("--web", is_flag=True, help="The chat window, too, for a browser.")
@click.option("--log-text", is_flag=True, help="Show what is asked, not only that it is.")
@click.option(
    "--print-config",
    type=click.Choice(["openwebui", "zed", "continue", "aider", "llm"]),
    help="Print what this program wants to know, and serve nothing.",
)
@model_options
@sampling_options
def serve(**flags: Any) -> None:
    """Serve the model and its adapters to other programs, as OpenAI's API does.

    \b
      openchat-local serve
      curl http://127.0.0.1:8080/v1/models

    Only this machine may ask, unless --host says otherwise; then an API key is needed.
    Each adapter is a model of its own, MODEL:ADAPTER. /docs lists all paths. Ctrl-C ends it, once
    those who wait have their answers; a second one at once.
    """
    if (flags["tls_cert"] is None) != (flags["tls_key"] is None):
        raise click.UsageError("--tls-cert and --tls-key go together: give both.")
    if flags["print_config"] is not None:
        _print_config(flags)
        return
    _need_libraries(web=flags["web"])
    force = flags.pop("force")
    overrides = take_overrides(flags)
    settings = _settings(overrides)
    keys = _keys(flags["api_key_file"])
    place = _listen(flags, keys)
    with closing(place.socket), suppress(KeyboardInterrupt):  # which is how a server ends
        web = None
        if flags["web"]:
            web = windows_of(settings, overrides, keys, place, _say, force=force)
            keys += web.keys
        door, wishes = _door(flags, keys, place), _wishes(settings, flags, force=force)
        _serve(place, door, wishes, settings, web)


def _serve(place: Place, door: Door, wishes: Wishes, settings: Settings, web: Web | None) -> None:
    from openchat_local.app.engine import installed_adapters, local_engine
    from openchat_local.app.server.application import application
    from openchat_local.app.server.running import ended_by, server_of
    from openchat_local.app.server.starting import serving_of

    plain = settings.model_copy(update={"adapter": None})
    engine = local_engine(plain, force=wishes.force)
    with ended_by(engine.close):
        engine.start()
        serving = serving_of(engine, installed_adapters(), wishes)
        app = application(serving, door, None if web is None else web.windows)
        inner = None if web is None or web.inner is place else web.inner.socket
        server = server_of(app, place.certificate, sockets=web is not None, inner=inner)
        _announce(place.url, [model.id for model in serving.models.all()])
        if web is not None:
            announce_window(place, anywhere=place.socket.getsockname()[0] in _ANY)
        try:
            server.run([place.socket])
        finally:
            engine.close()
            serving.bridge.close()


def _settings(overrides: dict[str, Any]) -> Settings:
    from openchat_local.app.settings.model import load_settings

    return load_settings(overrides)


def _wishes(settings: Settings, flags: dict[str, Any], *, force: bool) -> Wishes:
    from functools import partial

    from openchat_local.app.paths import ensure_home, states_dir
    from openchat_local.app.server.starting import Wishes
    from openchat_local.finetune.run.giving_way import replying

    named, default = _chosen_adapter(settings.adapter)
    return Wishes(
        sampling=settings.sampling.as_sampling(),
        named=named,
        default=default,
        condition=settings.condition,
        force=force,
        waiting=flags["waiting"],
        log=_say,
        log_text=flags["log_text"],
        report=_report,
        around=partial(replying, ensure_home()),
        states=states_dir() if settings.kv.budget_bytes else None,
    )


def _chosen_adapter(name: str | None) -> tuple[dict[str, Path], str | None]:
    """Adapters that are files, by name; and the name of the one that answers where no model is
    named."""
    from openchat_local.app.engine import adapter_path, installed_adapters
    from openchat_local.models.library.adapter_file import adapter_name

    path = adapter_path(name)
    if path is None:
        return {}, None
    called = adapter_name(path)
    if called in installed_adapters().names() and path.parent.name == called:
        return {}, called
    return {called: path}, called


def _listen(flags: dict[str, Any], keys: tuple[bytes, ...]) -> Place:
    from openchat_local.app.server.running import check_certificate, listen

    certificate = (flags["tls_cert"], flags["tls_key"]) if flags["tls_cert"] else None
    if certificate is not None:
        check_certificate(*certificate)
    return listen(flags["host"], flags["port"], secured=bool(keys), certificate=certificate)


def _door(flags: dict[str, Any], keys: tuple[bytes, ...], place: Place) -> Door:
    from openchat_local.app.server.guard import Door, origin_named, own_names

    names = {name.strip().lower().rstrip(".") for name in flags["allow_host"]}
    if not place.loopback:
        names |= {flags["host"].lower(), *own_names()}
    return Door(
        keys=keys,
        names=frozenset(names),
        any_address=not place.loopback,
        origins=frozenset(map(origin_named, flags["allow_origin"])),
    )


def _keys(file: Path | None) -> tuple[bytes, ...]:
    from openchat_local.app.server.guard import keys_of

    if file is None:
        value = os.environ.pop(KEY_VARIABLE, None)  # no child process needs to know it
        return () if value is None else keys_of(value, KEY_VARIABLE)
    try:
        text = file.expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise OpenChatError(
            f"The API keys in {file} cannot be read ({reason}): give another --api-key-file."
        ) from error
    return keys_of(text, str(file))


def _need_libraries(*, web: bool) -> None:
    from importlib.util import find_spec

    from openchat_local.models.system.installing import install_command

    names = ("starlette", "uvicorn", "prometheus_client", *(PACKAGES if web else ()))
    missing = [name for name in names if not find_spec(name)]
    if missing:
        extra = f"openchat-local[{'web' if web else 'serve'}]"
        raise OpenChatError(
            f"serve{' --web' if web else ''} needs {' and '.join(missing)}: "
            f"{install_command(extra)}"
        )


def _announce(url: str, models: list[str]) -> None:
    click.echo(f"Serving {one_line(', '.join(models))} at {url}/v1 (Ctrl-C ends it)")
    sys.stdout.flush()


def _say(line: str) -> None:
    import time

    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


def _report(error: Exception) -> None:
    from openchat_local.app.cli.main import append_to_log

    log = append_to_log(error)
    where = f"the details are in {log}" if log else "its log cannot be written"
    _say(one_line(f"a bug, sorry ({type(error).__name__}: {error}); {where}"))


def _print_config(flags: dict[str, Any]) -> None:
    from openchat_local.app.engine import installed_adapters, model_path
    from openchat_local.app.server.clients import config_for
    from openchat_local.app.server.served import names_of

    client, force = flags["print_config"], flags["force"]
    settings = _settings(take_overrides(flags))
    named, default = _chosen_adapter(settings.adapter)
    path = model_path(settings.model)
    names, context = names_of(path, installed_adapters(), named, default, force=force)
    host = "127.0.0.1" if flags["host"] in _ANY else flags["host"]
    host = f"[{host}]" if ":" in host else host
    url = f"{'https' if flags['tls_cert'] else 'http'}://{host}:{flags['port']}/v1"
    keyed = flags["api_key_file"] is not None or KEY_VARIABLE in os.environ
    context = min(settings.context or context, context)
    click.echo(config_for(client, url, names, context, keyed=keyed), nl=False)
