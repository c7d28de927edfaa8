"""Small templates that know tools, each in the form of a family of models."""

TAGGED = (
    "{% if tools %}<|system|>Call one of these:{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}"
    "{% endfor %}</s>{% endif %}"
    "{% for m in messages %}<|{{ {'assistant': 'bot', 'tool': 'user'}.get(m.role, m.role) }}|>"
    "{% if m.role == 'tool' %}<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% else %}{{ m.content }}{% endif %}"
    "{% for call in m.tool_calls or [] %}{{ '\n' if m.content or not loop.first }}"
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": '
    "{{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
"""Marks around a JSON object, as Hermes and Qwen have them."""
BARE = (
    "{% for m in messages %}<|{{ {'assistant': 'bot', 'tool': 'user'}.get(m.role, m.role) }}|>"
    "{% if tools and loop.first %}Functions: {{ tools | tojson }}\n\n{% endif %}"
    "{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}{{ raise_exception('One at a time') }}"
    "{% endif %}{% set call = m.tool_calls[0].function %}"
    '{{ \'{"name": "\' + call.name + \'", \' }}"parameters": {{ call.arguments | tojson }}}'
    "{% else %}{{ m.content }}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
"""A JSON object and nothing else, as Llama 3 has it."""
LISTED = (
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{% if tools and loop.first %}[AVAILABLE_TOOLS] {{ tools | tojson }}"
    "[/AVAILABLE_TOOLS]{% endif %}<|user|>{{ m.content }}<|bot|>"
    "{% elif m.role == 'tool' %}[TOOL_RESULTS] {\"content\": {{ m.content | tojson }}, "
    '"call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]'
    "{% elif m.tool_calls %}[TOOL_CALLS] [{% for call in m.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('Nine characters!') }}{% endif %}"
    '{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}, '
    '"id": "{{ call.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}]</s>'
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
"""A list behind one mark, as Mistral has it."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is outside.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
