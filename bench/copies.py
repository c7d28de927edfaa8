"""Texts that repeat what came before, as a chat has them: a file that is changed a little, its
comments translated, an answer made shorter, an answer gone on with after it was edited."""

from __future__ import annotations

from dataclasses import dataclass

CODE = '''"""Reads temperature logs and reports how warm each station was."""

import csv
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Reading:
    """One line of a log."""

    station: str
    hour: int
    celsius: float


def read_log(path):
    """All readings of one file, in the order that they were written in."""
    readings = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            # Stations that are being repaired write a dash.
            if row["celsius"] == "-":
                continue
            readings.append(Reading(row["station"], int(row["hour"]), float(row["celsius"])))
    return readings


def by_station(readings):
    """The readings of each station, by its name."""
    stations = {}
    for reading in readings:
        stations.setdefault(reading.station, []).append(reading)
    return stations


def warmest_hour(readings):
    """The hour of the day with the highest mean temperature."""
    hours = {}
    for reading in readings:
        hours.setdefault(reading.hour, []).append(reading.celsius)
    # Of two hours that are equally warm the earlier one counts.
    return max(sorted(hours), key=lambda hour: statistics.fmean(hours[hour]))


def report(folder):
    """Print a line for each station that has a log in the folder."""
    readings = []
    for path in sorted(folder.glob("*.csv")):
        readings += read_log(path)
    for station, found in sorted(by_station(readings).items()):
        mean = statistics.fmean(reading.celsius for reading in found)
        print(f"{station}: {mean:.1f} degrees, warmest at {warmest_hour(found)} o'clock")


if __name__ == "__main__":
    report(Path("logs"))
'''

_CHANGES = (
    ("def report(folder):", 'def report(folder, unit="degrees"):'),
    ("{mean:.1f} degrees, warmest", "{mean:.1f} {unit}, warmest"),
    (
        "    for station, found in sorted(",
        '    print(f"{len(readings)} readings")\n    for station, found in sorted(',
    ),
    ('    report(Path("logs"))', '    report(Path("logs"), unit="degrees Celsius")'),
)

_TRANSLATIONS = (
    ("Reads temperature logs and reports how warm each station was.", "Liest Temperaturprotokolle und meldet, wie warm jede Station war."),
    ("One line of a log.", "Eine Zeile eines Protokolls."),
    ("All readings of one file, in the order that they were written in.", "Alle Messwerte einer Datei in der Reihenfolge, in der sie geschrieben wurden."),
    ("Stations that are being repaired write a dash.", "Stationen, die gerade repariert werden, schreiben einen Strich."),
    ("The readings of each station, by its name.", "Die Messwerte jeder Station nach ihrem Namen."),
    ("The hour of the day with the highest mean temperature.", "Die Stunde des Tages mit der höchsten mittleren Temperatur."),
    ("Of two hours that are equally warm the earlier one counts.", "Von zwei gleich warmen Stunden zählt die frühere."),
    ("Print a line for each station that has a log in the folder.", "Gibt für jede Station, die ein Protokoll im Ordner hat, eine Zeile aus."),
)  # fmt: skip

PROSE = """Rivers follow the slope of the land. Rain and melting snow gather in small streams, which \
join one another on their way down and grow into larger ones. In the mountains the water is fast: \
it cuts deep valleys, carries stones along, and leaves them where the ground becomes flatter. In \
the plains a river is slow and begins to wander. On the outside of a bend the current eats away \
the bank, and on the inside it drops sand and mud, so that every bend becomes wider from year to \
year, until a flood breaks through its neck and leaves a lake in the shape of a horseshoe behind. \
Where a river meets the sea it loses what is left of its speed. The mud that it has carried for \
hundreds of kilometres sinks to the bottom, and new land grows: a delta, in which the water \
divides into many arms. People have always settled along rivers, because they give water to \
drink, fish to eat, fertile fields and a way to travel. They have also always feared them. Dams \
and dikes protect the cities today, but they hold back the mud as well, and deltas without mud \
sink slowly into the sea. Many countries have therefore begun to give rivers some of their space \
back, with meadows that may be flooded in spring and stay dry for the rest of the year."""

SHORTER = """Rivers follow the slope of the land. Rain and melting snow gather in small streams, \
which join one another and grow into larger ones. In the mountains the water is fast: it cuts deep \
valleys and carries stones along. In the plains a river is slow and begins to wander, so that every \
bend becomes wider from year to year, until a flood breaks through its neck. Where a river meets \
the sea, the mud that it has carried sinks to the bottom, and new land grows: a delta. People have \
always settled along rivers, because they give water to drink, fish to eat, fertile fields and a \
way to travel. Dams and dikes protect the cities today, but they hold back the mud as well. Many \
countries have therefore begun to give rivers some of their space back."""

_EDITS = (
    ("hundreds of kilometres", "a thousand kilometres"),
    ("They have also always feared them.", "They have feared them as well, and with reason."),
    ("in spring and stay dry", "in winter and stay dry"),
)
_CUT = "On the outside of a bend "


@dataclass(frozen=True, slots=True)
class Copy:
    """What is asked, what came before it, and what is replied; `begun` is what the reply has
    already, `likely` what it was before."""

    name: str
    turns: tuple[str, ...]
    reply: str
    begun: str = ""
    likely: str = ""


def copies() -> tuple[Copy, ...]:
    """The texts that repeat, and at the end one that does not."""
    file = f"```python\n{CODE}```"
    edited = PROSE.replace("In the plains a river is slow", "In the lowlands a river is lazy")
    begun, cut, _ = edited.partition(_CUT)
    rest = PROSE.partition(_CUT)[2]
    return (
        Copy(
            "small change, the whole file back",
            (
                f"Let report take the unit, count the readings, and give the whole file back.\n{file}",
            ),
            f"```python\n{_replaced(CODE, _CHANGES)}```",
        ),
        Copy(
            "translate the comments",
            (f"Translate the comments and docstrings into German; change nothing else.\n{file}",),
            f"```python\n{_replaced(CODE, _TRANSLATIONS)}```",
        ),
        Copy("shorter, please", ("Tell me about rivers.", PROSE, "Shorter, please."), SHORTER),
        Copy(
            "go on after an edit",
            ("Tell me about rivers.",),
            _replaced(rest, _EDITS),
            begun=begun + cut.rstrip(),
            likely=PROSE,
        ),
        Copy("nothing repeats", ("Tell me about the water in the world.",), PROSE),
    )


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text
