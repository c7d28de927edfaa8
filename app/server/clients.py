"""The few lines that other programs want to know of a server."""

from __future__ import annotations

import json

_KEY = "OPENCHAT_LOCAL_API_KEY"
CLIENTS = ("openwebui", "zed", "continue", "aider", "llm")


def config_for(client: str, url: str, models: list[str], context: int, *, keyed: bool) -> str:
    """What to give to `client`, one of CLIENTS, and where it belongs, as comments. `url` ends in
    /v1; the first of `models` is the one to begin with. `keyed` is a server that wants a key,
    which stands in no text: each client reads it where it reads its own."""
    model = models[0]
    key = f"${_KEY}" if keyed else "none"
    match client:
        case "openwebui":
            return (
                "# Environment of Open WebUI (a shell, or `environment:` of a compose file). In a\n"
                "# container this machine has another name, host.docker.internal: serve with\n"
                "# --host 0.0.0.0 --allow-host host.docker.internal and an API key then.\n"
                f"OPENAI_API_BASE_URL={url}\n"
                f"OPENAI_API_KEY={key}\n"
            )
        case "aider":
            return (
                "# In a shell:\n"
                f"export OPENAI_API_BASE={url}\n"
                f"export OPENAI_API_KEY={key}\n"
                f"aider --model openai/{model}\n"
            )
        case "llm":
            key_name = '  api_key_name: "openchat-local"\n' if keyed else ""
            entries = "".join(
                f"- model_id: {json.dumps(one)}\n"
                f"  model_name: {json.dumps(one)}\n"
                f"  api_base: {json.dumps(url)}\n{key_name}"
                for one in models
            )
            keys = "# The key: llm keys set openchat-local\n" if keyed else ""
            return (
                '# extra-openai-models.yaml in the folder that `dirname "$(llm logs path)"` '
                f"prints:\n{keys}{entries}"
            )
        case "continue":
            entries = "".join(
                f"  - name: {json.dumps(one)}\n"
                "    provider: openai\n"
                f"    model: {json.dumps(one)}\n"
                f"    apiBase: {json.dumps(url)}\n"
                f"    apiKey: {json.dumps('${{ secrets.' + _KEY + ' }}' if keyed else 'none')}\n"
                for one in models
            )
            return (
                "# ~/.continue/config.yaml:\nname: openchat-local\nversion: 1.0.0\nschema: v1\n"
                f"models:\n{entries}"
            )
        case "zed":
            known = [{"name": one, "display_name": one, "max_tokens": context} for one in models]
            settings = {
                "language_models": {
                    "openai_compatible": {
                        "openchat-local": {"api_url": url, "available_models": known}
                    }
                }
            }
            return (
                "// In Zed's settings.json; its agent panel asks for the key"
                f"{'' if keyed else ', for which any word will do'}:\n"
                f"{json.dumps(settings, indent=2, ensure_ascii=False)}\n"
            )
    raise ValueError(client)
