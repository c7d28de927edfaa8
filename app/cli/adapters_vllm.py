"""Adapters for vLLM, for `adapters export --vllm`: a folder that a GPU machine is given."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.cli.adapters_peft import convert_to_peft
from openchat_local.app.printable import one_line
from openchat_local.models.errors import AdapterError, OpenChatError, TemplateError

if TYPE_CHECKING:
    from openchat_local.app.settings.model import SamplingSettings
    from openchat_local.models.gguf import GGUFFile
    from openchat_local.models.library.adapters import InstalledAdapter
    from openchat_local.models.template import Template

# The values that `--max-lora-rank` can have (vllm/config/lora.py).
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# In a file's name, and nothing for a shell or a list of models.
_UNUSUAL = re.compile(r"[^\w.+-]+")
TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the folder says. `served` is what the model is called, `repository` where its weights
    are, None if that is not known; `difference` where the template file is not what chat does."""

    name: str
    served: str
    repository: str | None
    condition: str
    takes_condition: bool
    rank: int
    sampling: dict[str, float]
    difference: str | None

    @property
    def called(self) -> str:
        """What clients ask for, here and there."""
        return f"{self.served}:{self.name}"


def export_to_vllm(
    adapter: InstalledAdapter, out: Path, base_path: Path, *, force: bool
) -> list[str]:
    """Write the folder `out`, which is not there yet; what to tell of it is returned. Raises
    OpenChatError or OSError."""
    from openchat_local.app.engine import adapter_scale
    from openchat_local.app.settings.model import load_settings
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import check_fits
    from openchat_local.models.library.origin import hub_repository
    from openchat_local.models.library.resolve import model_name
    from openchat_local.models.system.atomic import replacing_folder
    from openchat_local.models.template.published import difference, jinja_of

    base = read_gguf(base_path)
    check_fits(adapter.file, base, force=force)
    rank = max(adapter.file.ranks)
    if rank > _RANKS[-1]:
        raise AdapterError(
            f"vLLM takes adapters of rank {_RANKS[-1]} at most, and {adapter.name} has {rank}: "
            "merge it into its model instead (openchat-local adapters merge)."
        )
    template = _template(adapter, base)
    trained = adapter.file.card.condition
    condition = template.default_condition if trained is None else trained
    source = jinja_of(template, condition)
    if source is None:
        raise OpenChatError(
            f"The model of {adapter.name} has no chat template that vLLM could be given: name one "
            "in the settings (template)."
        )
    plan = Plan(
        name=adapter.name,
        served=_UNUSUAL.sub("-", model_name(base.path)),
        repository=hub_repository(base),
        condition=condition,
        takes_condition="condition is defined" in source,
        rank=next(one for one in _RANKS if one >= rank),
        sampling=_sampling(load_settings().sampling),
        difference=_difference(template, {condition, template.default_condition, ""}, difference),
    )
    with replacing_folder(out, new=True) as part:
        _write_peft(adapter, part / "adapter", base_path, adapter_scale(adapter.name), force=force)
        (part / TEMPLATE_FILE).write_text(source, encoding="utf-8")
        (part / "serve.sh").write_text(_script(plan), encoding="utf-8")
        (part / "serve.sh").chmod(0o755)
        (part / "README.md").write_text(_readme(plan), encoding="utf-8")
    return _told(plan, out)


def _template(adapter: InstalledAdapter, base: GGUFFile) -> Template:
    """That of the adapter's training where it is of a known family, else the model's own."""
    from openchat_local.models.template import FAMILIES, choose_template
    from openchat_local.models.template.vocabulary import Vocabulary

    named = adapter.file.card.template
    vocabulary = Vocabulary.open(base.path)
    if named in {family.name for family in FAMILIES}:
        with suppress(TemplateError):
            return choose_template(base, vocabulary, named)
    return choose_template(base, vocabulary)


def _difference(template: Template, conditions: set[str], find: Any) -> str | None:
    try:
        found = (find(template, condition) for condition in sorted(conditions))
        return next((one for one in found if one is not None), None)
    except TemplateError as error:
        return str(error)


def _sampling(settings: SamplingSettings) -> dict[str, float]:
    """The settings by vLLM's names."""
    known: dict[str, float] = {
        "temperature": settings.temperature,
        "top_k": settings.top_k or -1,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
        "repetition_penalty": settings.repeat_penalty,
    }
    return known | ({"max_new_tokens": settings.max_tokens} if settings.max_tokens else {})


def _write_peft(
    adapter: InstalledAdapter, folder: Path, base_path: Path, scale: float, *, force: bool
) -> None:
    if adapter.peft is not None:
        shutil.copytree(adapter.peft, folder)
    else:
        convert_to_peft(adapter, folder, base_path, force=force)
    if scale != 1.0:  # of which vLLM knows nothing
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text("utf-8"))
        config["lora_alpha"] *= scale
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _script(plan: Plan) -> str:
    if plan.repository is None:
        model = "${MODEL:?set MODEL to the Hugging Face repository or folder of the model}"
    else:
        model = f"${{MODEL:-{plan.repository}}}"
    return f"""#!/bin/sh
# Serves {plan.called} with vLLM, and the model without it.
# More options of vLLM's may follow: sh serve.sh --port 8000 --tensor-parallel-size 2
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
exec vllm serve "{model}" \\
  --served-model-name {shlex.quote(plan.served)} \\
  --chat-template "$here/{TEMPLATE_FILE}" \\
  --enable-lora --max-lora-rank {plan.rank} \\
  --lora-modules {shlex.quote(plan.called)}="$here/adapter" \\
  --override-generation-config '{json.dumps(plan.sampling)}' \\
  "$@"
"""


def _readme(plan: Plan) -> str:
    base = (
        "MODEL, which is to be set to its model's repository or folder"
        if plan.repository is None
        else f"{plan.repository} (or MODEL, if that is set)"
    )
    return f"""# {plan.called} for vLLM

`adapter/` is the adapter as Hugging Face's peft keeps it, `{TEMPLATE_FILE}` writes the prompts
as openchat-local does, and `serve.sh` starts [vLLM](https://docs.vllm.ai) with both on
{base}:

    pip install vllm
    sh serve.sh --api-key "$KEY"

Then, from wherever that can be reached:

    curl http://localhost:8000/v1/chat/completions -H "Authorization: Bearer $KEY" \\
      -H 'Content-Type: application/json' \\
      -d '{{"model": "{plan.called}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    openchat-local chat --engine http://localhost:8000/v1 --api-key-env KEY -m {plan.called}
{_conditions(plan) if plan.takes_condition else ""}
## What is not the same

- The weights are the model's own, not those of the quantised file that chat has: replies are not
  word for word the same, whatever the temperature and the seed.
- A control token that somebody writes in a message is one here, and text there.
"""


def _conditions(plan: Plan) -> str:
    writes = f"the condition `{one_line(plan.condition)}`" if plan.condition else "no condition"
    return f"""
## Conditions

Where a request names none, the template writes {writes}, for {plan.served} as well.
A request may name one, `""` for none:

    "chat_template_kwargs": {{"condition": {json.dumps(plan.condition, ensure_ascii=False)}}}
"""


def _told(plan: Plan, out: Path) -> list[str]:
    lines = [f"{out} has {plan.called} for vLLM: sh {out / 'serve.sh'} on the machine that has it."]
    if plan.difference is None:
        under = f" under the condition {plan.condition!r}" if plan.condition else ""
        lines.append(f"Its template was tried: the token ids are those of chat{under}.")
    else:
        lines.append(
            f"Its template does not write all that chat does ({plan.difference}): expect replies "
            "that are a little worse."
        )
    if plan.repository is None:
        lines.append("Where the model's own weights are is not known: serve.sh asks for MODEL.")
    return lines
