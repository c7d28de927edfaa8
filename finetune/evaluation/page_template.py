"""report.html of an evaluation as a Jinja template: its style, and what stands where."""

from __future__ import annotations

# What pictures are drawn with (see `canvas`), by the names that the style sheet has for it.
COLOUR_NAMES = {
    "#fdfdfe": "card",
    "#1b1f25": "text",
    "#5b6571": "quiet",
    "#d8dde4": "line",
    "#0072b2": "series-0",
    "#d55e00": "series-1",
    "#009e73": "series-2",
    "#cc79a7": "series-3",
    "#b8860b": "series-4",
    "#4a90c2": "series-5",
}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ result.title }}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; --page: #fff;
  --text: #1b1f24; --quiet: #5b6570; --line: #d8dde3; --panel: #f5f7f9; --card: #fdfdfe;
  --accent: #0072b2; --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73;
  --series-3: #cc79a7; --series-4: #b8860b; --series-5: #4a90c2; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --text: #e6e9ec; --quiet: #9aa5b1;
  --line: #363d45; --panel: #1e2329; --card: #191d22; --accent: #56b4e9; --series-0: #56b4e9;
  --series-1: #ff8c42; --series-2: #2fc79a; --series-3: #e8a6cc; --series-4: #f0c24b;
  --series-5: #9bd0f5; } }
* { box-sizing: border-box; }
body { max-width: 66rem; margin: 1.5rem auto 4rem; padding: 0 1rem; background: var(--page);
  color: var(--text); overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
.quiet, .facts, figcaption, caption { color: var(--quiet); }
.facts { margin: .2rem 0 1rem; font-size: .9rem; }
.sentences { margin: 1rem 0; padding: .4rem 1rem; background: var(--panel);
  border-left: 4px solid var(--accent); font-size: 1.05rem; }
.sentences p { margin: .45rem 0; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .3rem 0; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td { max-width: 34rem; white-space: pre-line; }
th { font-weight: 500; color: var(--quiet); vertical-align: bottom; }
tbody tr:hover { background: var(--panel); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.4rem 0; } figcaption { font-size: .9rem; margin-top: .3rem; }
figure svg { display: block; width: 100%; max-width: 54rem; height: auto; border-radius: 6px;
  border: 1px solid var(--line); }
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--accent); }
.row { border-top: 1px solid var(--line); padding: .5rem 0 .7rem; }
.row dl { display: flex; flex-wrap: wrap; gap: .1rem 1.3rem; margin: 0; font-size: .9rem; }
.row dl div { display: flex; gap: .4rem; } .row dt { color: var(--quiet); }
.row dd { margin: 0; font-variant-numeric: tabular-nums; }
.label { color: var(--quiet); font-size: .85rem; margin: .4rem 0 .1rem; }
.text, pre { white-space: pre-wrap; margin: 0; unicode-bidi: plaintext; }
.text { background: var(--panel); padding: .4rem .7rem; max-height: 13rem; overflow-y: auto; }
.beside { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.beside > div { min-width: 0; }
pre { font-size: .85rem; background: var(--panel); padding: .6rem .8rem; }
@media print { .text { max-height: none; overflow: visible; } figure { break-inside: avoid; } }
</style></head><body>
{% macro block(name, text) %}<div class="label">{{ name }}</div>
<div class="text">{{ text or "(nothing)" }}</div>{% endmacro %}
{% macro show(card) %}<section class="row"><dl><div><dt>{{ card.number }}</dt></div>
{% for name, value in card.facts %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}</dl>
{% for name, text in card.texts %}{{ block(name, text) }}{% endfor %}
{% for name, texts in card.beside %}<div class="label">{{ name }}</div><div class="beside">
{% for key, text in texts %}<div>{{ block(key, text) }}</div>{% endfor %}</div>
{% endfor %}</section>
{% endmacro %}
<h1>{{ result.title }}</h1>
{% if contenders %}<p class="facts">
{% for words in contenders %}{{ words }}{% if not loop.last %}<br>{% endif %}
{% endfor %}</p>{% endif %}
{% if result.sentences %}<div class="sentences">
{% for sentence in result.sentences %}<p>{{ sentence }}</p>
{% endfor %}</div>{% endif %}
{% for picture in result.pictures %}<figure>{{ picture.svg | inline }}
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}
{% for table in tables %}<h2>{{ table.title }}</h2><div class="wide" tabindex="0"><table><thead>
<tr>{% for name, right in table.columns %}<th scope="col"{% if right %} class="n"{% endif %}>
{{- name }}</th>{% endfor %}</tr></thead><tbody>
{% for row in table.rows %}<tr>{% for cell, right in row %}<td{% if right %} class="n"{% endif %}>
{{- cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if table.note %}<p class="quiet">{{ table.note }}</p>{% endif %}
{% endfor %}
{% if result.notes %}<h2>What to know of it</h2>
{% for note in result.notes %}<p class="quiet">{{ note }}</p>
{% endfor %}{% endif %}
{% if cards %}<h2>Row by row</h2>
{% for card in cards %}{{ show(card) }}{% endfor %}
{% for fold in folds %}<details><summary>Rows {{ fold[0].number }} to {{ fold[-1].number }} of
{{ count }}</summary>{% for card in fold %}{{ show(card) }}{% endfor %}</details>
{% endfor %}
{% if count > shown %}<p class="quiet">The other {{ count - shown }} are in rows.jsonl.</p>
{% endif %}{% endif %}
<details><summary>What produced this</summary><pre>{{ made_by }}</pre></details>
</body></html>
"""
