"""Ways in which a right answer is written that its contract does not have.

Not here: what has to come of them (``test_contract_slips.py``).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

Dress = Callable[[str], str]


def wide(text: str) -> str:
    """Full-width forms of printable ASCII."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


DRESSES: list[Dress] = [
    *(lambda x, s=sign: x + s for sign in (".", "!", ",", ";", "。", "！", "।")),
    *(
        lambda x, p=pair: f"{p[0]}{x}{p[1]}"
        for pair in ('""', "''", "``", "**", "__", "()", "[]", "“”", "„“", "«»", "「」", "『』")
    ),
    *(
        lambda x, f=form: f.format(x)
        for form in (
            *("**{}**", "***{}***", "__{}__", "~~{}~~", '"{}."', "**{}**.", "- {}", "* {}", "# {}"),
            *("Label: {}", "**Label:** {}", "**Answer**: **{}**", "Category: `{}`", "label = {}"),
            *("The answer is: {}.", 'The answer is "{}".', "I would classify this as {}.", "> {}"),
            *(
                "```\n{}\n```",
                "~~~\n{}\n~~~",
                "<label>{}</label>",
                "  {}\n",
                "\u200b{}",
                "\ufeff{}",
            ),
            *("Die Antwort lautet: {}.", "La réponse est : {}", "La respuesta es: {}.", "答案：{}"),
            *(
                "答案是{}。",
                "答えは{}",
                "{}\n\nThis is what the whole message asks about.",
                "उत्तर: {}",
            ),
            *("{}, because this is what the message asks for.", "الإجابة: {}", '{{"label": "{}"}}'),
        )
    ),
    wide,
    str.upper,
    lambda x: unicodedata.normalize("NFD", x),
]
LISTS: list[Callable[[list[str]], str]] = [
    lambda tags: "\n".join(f"- {tag}" for tag in tags),
    lambda tags: "\n".join(f"* **{tag}**" for tag in tags),
    lambda tags: "\n".join(f"{n}. {tag}" for n, tag in enumerate(tags, 1)),
    lambda tags: "\n".join(tags),
    lambda tags: "[" + ", ".join(f'"{tag}"' for tag in tags) + "]",
    lambda tags: "```json\n[" + ", ".join(f'"{tag}"' for tag in tags) + "]\n```",
    lambda tags: '{"tags": [' + ", ".join(f'"{tag}"' for tag in tags) + "]}",
    lambda tags: "; ".join(tags),
    lambda tags: ", ".join(tags) + ",",
    lambda tags: ", ".join(tags) + ".",
    lambda tags: "Tags: " + ", ".join(tags),
    lambda tags: "Tags:\n" + "\n".join(f"- {tag}" for tag in tags),
    lambda tags: " and ".join(tags),
    lambda tags: "、".join(tags),
    lambda tags: " | ".join(f"`{tag}`" for tag in tags),
]
FENCES: list[Dress] = [
    "```json\n{}\n```".replace("{}", "%s").__mod__,
    "```\n%s\n```".__mod__,
    "~~~\n%s\n~~~".__mod__,
    "~~~json\n%s\n~~~".__mod__,
    "````JSON\n%s\n````".__mod__,
    "```json %s```".__mod__,
    "Here it is:\n%s".__mod__,
    "Here it is:\n```json\n%s\n```".__mod__,
    "%s\nI hope this helps.".__mod__,
    "Sure.\n\n%s\n\nTell me if more is needed.".__mod__,
    "\ufeff%s".__mod__,
]
