"""report.html as a Jinja template: its style, and what stands where."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif;
  --page: #fff; --text: #1b1f24; --quiet: #5b6570; --line: #d8dde3; --panel: #f5f7f9;
  --accent: #0072b2; {{ light }} }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --text: #e6e9ec; --quiet: #9aa5b1;
  --line: #363d45; --panel: #1e2329; --accent: #56b4e9; {{ dark }} } }
body { max-width: 66rem; margin: 1.5rem auto; padding: 0 1rem; background: var(--page);
  color: var(--text); }
h1 { margin: 0; font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 1.2rem 0 .4rem; }
.quiet, small, caption, summary small { color: var(--quiet); }
.facts { margin: .1rem 0 .8rem; color: var(--quiet); }
.verdict { font-size: 1.1rem; margin: .6rem 0; padding: .5rem .9rem; background: var(--panel);
  border-left: 4px solid var(--accent); }
.notice { margin: .3rem 0; }
.learned { display: grid; grid-template-columns: 3fr 2fr; gap: 1.5rem; align-items: start; }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .85rem; }
svg { width: 100%; height: auto; font-size: 13px; }
svg text { fill: var(--quiet); } svg .y { text-anchor: end; } svg .x { text-anchor: middle; }
svg .grid { stroke: var(--line); } svg polyline { fill: none; stroke-width: 2; }
svg .dots { stroke: var(--page); stroke-width: 1.5; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  margin-right: .4em; }
table { border-collapse: collapse; margin: .3rem 0; width: 100%; }
th, td { padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--quiet); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre, .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.question { font-weight: 600; max-height: 6rem; overflow-y: auto; }
.asked { border-top: 1px solid var(--line); padding: .5rem 0; }
.answers { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; margin: .3rem 0; }
.answers > div { background: var(--panel); padding: .4rem .7rem; min-width: 0; }
.answers .text { max-height: 7.3rem; overflow-y: auto; }
details { margin: .5rem 0; } details svg { max-width: 40rem; display: block; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 50rem) { .learned, .answers { grid-template-columns: 1fr; } }
@media print { .question, .answers .text { max-height: none; overflow: visible; } }
</style></head><body>
{% macro answers(one, wanted) %}<div class="answers">
<div><small>before</small><div class="text">{{ one.before or "(nothing)" }}</div></div>
<div><small>after</small><div class="text">{{ one.after or "(nothing)" }}</div></div>
{% if wanted %}<div><small>wanted: what the data says</small><div class="text">{{ wanted }}</div>
</div>{% endif %}</div>{% endmacro %}
{% macro asked(answer) %}<section class="asked"><div class="question text">{{ answer.prompt }}</div>
{% if answer.class_name %}<small>a conversation of the class {{ answer.class_name }} ·</small>
{% endif %}
{% if answer.system %}<small>under the system prompt “{{ answer.system | truncate(120) }}”</small>
{% endif %}
{% for one in answer.conditions[:1] %}<small>{{ named(one.condition) }}</small>
{{ answers(one, answer.wanted) }}{% endfor %}
{% if answer.conditions | length > 1 %}<details><summary>Under the other conditions</summary>
{% for one in answer.conditions[1:] %}<small>{{ named(one.condition) }}</small>
{{ answers(one, "") }}{% endfor %}</details>{% endif %}</section>{% endmacro %}
<h1>{{ title }}</h1>
<p class="facts">{{ facts }}</p>
<p class="verdict">{{ verdict }}</p>
{% for text in notices %}<p class="notice">⚠ {{ text }}</p>{% endfor %}
<div class="learned">
{% if loss_chart %}<figure>{{ loss_chart | safe }}<figcaption>Lines: training
{%- if smoothing > 1 %}, the mean of the last {{ smoothing }} steps{% endif %}
{%- if classes | selectattr("held_out") | list %}; dots: held out{% endif %}.</figcaption>
</figure>{% endif %}
{% if classes %}<table>
<tr><th>class<th class="n">reward<th class="n">held-out loss<th class="n">at its best</tr>
{% for row in classes %}<tr><td><span class="swatch" style="background:{{ row.colour }}"></span>
{{ row.name }}<br><small>{{ named(row.condition) }}</small><td class="n">{{ row.reward }}
<td class="n">{{ row.first }}<td class="n">{{ row.best }}<br><small>{{ row.change }}</small></tr>
{% endfor %}</table>{% endif %}</div>
{% if story %}<h2>What happened</h2>
{% for text in story %}<p>{{ text }}</p>{% endfor %}{% endif %}
{% if shown %}<h2>Before, after, wanted</h2>
<p class="quiet">{{ about_answers }}</p>
{% for answer in shown %}{{ asked(answer) }}{% endfor %}
{% if folded %}<details><summary>{{ folded | length }} more</summary>
{% for answer in folded %}{{ asked(answer) }}{% endfor %}</details>{% endif %}{% endif %}
<h2>How it was trained</h2>
{% for text in notes %}<p class="notice">• {{ text }}</p>{% endfor %}
{% if rate_chart %}<details><summary>Learning rate</summary>{{ rate_chart | safe }}</details>
{% endif %}
{% for name, rows in tables %}<details><summary>{{ name }}</summary><table>
{% for key, value in rows %}<tr><th>{{ key }}<td>{{ value }}</tr>{% endfor %}</table></details>
{% endfor %}
<details><summary>Every setting</summary><pre>{{ settings }}</pre></details>
</body></html>
"""
