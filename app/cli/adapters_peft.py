"""Adapters to and from the format of Hugging Face's peft, for `adapters`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.models.library.adapters import InstalledAdapter


def import_peft(folder: Path, name: str, base_path: Path, *, replace: bool, force: bool) -> None:
    """Install the adapter in `folder` as `name`, for the model at `base_path`; with `force` also
    where it names another. Raises AdapterError, ModelFileError or OpenChatError."""
    import shutil
    from tempfile import TemporaryDirectory

    from openchat_local.app.engine import installed_adapters
    from openchat_local.finetune.adapter import read_peft, told_base, write_gguf
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import AdapterCard, check_fits, read_adapter
    from openchat_local.models.library.adapters import check_name
    from openchat_local.models.library.identity import identity_of
    from openchat_local.models.library.origin import hub_repository

    check_name(name)  # before it becomes a part of any path
    base = read_gguf(base_path)
    told, own = told_base(folder), hub_repository(base)
    if told and own and told.lower() != own.lower() and not force:
        raise OpenChatError(
            f"The adapter in {folder} says that it was trained on {told}, and {base.path.name} is "
            f"{own}: name its own base with --model, or add --force."
        )
    weights, config = read_peft(folder, base)
    card = AdapterCard(
        base_name=base.name, base_fingerprint=base.fingerprint, base=identity_of(base)
    )
    with TemporaryDirectory(prefix="openchat-local-peft-") as temporary:
        file = Path(temporary) / f"{name}.gguf"
        try:
            write_gguf(file, weights, config, base, card)
        except OSError as error:
            raise cannot_write(file, error) from error
        check_fits(read_adapter(file), base)
        peft = Path(temporary) / "peft"  # beside these two there may be anything
        peft.mkdir()
        for part in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(folder / part, peft / part)
        installed_adapters().add(name, file, peft=peft, replace=replace)


def convert_to_peft(adapter: InstalledAdapter, out: Path, base_path: Path, *, force: bool) -> None:
    """Write an installed adapter to the folder `out`. Raises AdapterError, ModelFileError or
    OSError."""
    from openchat_local.finetune.adapter import read_gguf_adapter, write_peft
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import check_fits
    from openchat_local.models.library.origin import hub_repository

    base = read_gguf(base_path)
    check_fits(adapter.file, base, force=force)
    weights, config, _ = read_gguf_adapter(adapter.path)
    write_peft(out, weights, config, base, hub_repository(base))


def cannot_write(out: Path, error: OSError) -> OpenChatError:
    """What to tell where the system refuses to write `out`."""
    return OpenChatError(
        f"{out} cannot be written ({error.strerror or error}): choose another place."
    )
