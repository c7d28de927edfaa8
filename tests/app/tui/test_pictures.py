"""What the transcript looks like, in a small terminal and in a large one."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult

from openchat_local.app.tui.markdown.search import Finder
from openchat_local.app.tui.widgets.transcript import Transcript
from support.transcript_snapshot import check, picture
from support.turns import turn

USAGE = {"generated_tokens": 212, "decode_seconds": 1.6, "time_to_first_token": 0.21}
REPLY = """\
## 漢字 and links

Use a *context manager* so that the file is **closed**; see [the 文書](https://docs.python.org/3/?q=%E6%96%87).

```python
def read(path: str) -> str:
    # 読む: 全部を読み込んで、長い行も途中で折り返されるようにコメントを書いておきます。
    return open(path).read()
```

| 名前 | meaning | size |
|---|:--|---:|
| 東京 | Tokyo, the capital | 13,960,000 |
| 🎉🎉 | party | 1 |
| e\u0301te\u0301 | summer | 22 |

1. first item, which is long enough to be broken into more than one row of a small terminal
2. 二番目の項目は日本語で書かれていて、折り返しが必要になるほど長い文章です。どうでしょうか。
   - nested

> 引用 of something

~~gone~~ `inline 漢字` and ~~~tildes
"""
TURNS = [
    turn(0, "user", "前の質問？"),
    turn(1, "assistant", "It no longer fits."),
    turn(2, "user", "How do I read a file?\n\tそして 🎉 [bold]markup[/bold] \x1b[31m", siblings=2),
    turn(3, "assistant", REPLY, usage=USAGE, rating=1, sibling=2, siblings=3),
    turn(4, "user", "And write?"),
    turn(5, "assistant", "Call `write` 書く", finish_reason="length", usage=USAGE),
    turn(6, "user", "Again?"),
    turn(7, "assistant", "What it should have said.", edited=True, rating=-1),
]


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield Transcript()


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_a_chat_with_everything_in_it(size: tuple[int, int]) -> None:
    app = Host()
    async with app.run_test(size=size) as pilot:
        transcript = app.query_one(Transcript)
        transcript.show_turns(TURNS, outside=2)
        transcript.select("m3")
        transcript.finder = Finder("漢字")
        transcript.finder.point_at("m3", 0)
        pages: list[str] = []
        transcript.action_first()
        while True:
            await pilot.pause()
            pages.append(picture(transcript))
            if transcript.scroll_offset.y >= transcript.max_scroll_y:
                break
            transcript.page(1)
        check(f"chat-{size[0]}x{size[1]}", ("═" * size[0] + "\n").join(pages))
