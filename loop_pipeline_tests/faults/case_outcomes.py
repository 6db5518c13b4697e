"""What has to come out of the cases that are known, by the name of their file.

Not here: taking a file through the steps (``case_stages.py``, ``test_cases.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.answers.contract import SLIP
from loop_pipeline_tests.faults.case_stages import Day

MOMENT = "2026-09-04 08:30:00"

Check = Callable[[Day], object]


def _stored(*prompt_ids: str) -> Check:
    return lambda day: set(prompt_ids) <= set(day.traces["prompt_id"])


def _refused(word: str, *, stored: int) -> Check:
    """One line is quarantined for this reason; so many traces of the file are stored."""

    def check(day: Day) -> bool:
        own = ~day.traces["prompt_id"].str.startswith("sound-")
        why = day.quarantine["reason"].tolist()
        return len(why) == 1 and word in why[0] and int(own.sum()) == stored

    return check


def _column(name: str, **wanted: Any) -> Check:
    def check(day: Day) -> bool:
        values = day.traces.set_index("prompt_id")[name]
        return all(values[p.replace("_", "-")] == value for p, value in wanted.items())

    return check


def _at(*prompt_ids: str) -> Check:
    def check(day: Day) -> bool:
        moments = day.traces.set_index("prompt_id")["ts"]
        return all(str(moments[p]).startswith(MOMENT) for p in prompt_ids)

    return check


def _no_target(prompt_id: str) -> Check:
    return lambda day: not day.kinds(prompt_id) & {"sft", "kto_pos", "dpo"}


def _flag(prompt_id: str, grounded: str) -> Check:
    return lambda day: day.flag(prompt_id)["grounded"] == grounded


def _not_made_up(*prompt_ids: str) -> Check:
    """T0 lets the answers pass: what the words say is another tier's matter."""
    return lambda day: all(
        (day.flag(p)["tier"], day.flag(p)["grounded"]) != ("T0", "no") for p in prompt_ids
    )


def _made_up(prompt_id: str, fact: str) -> Check:
    return lambda day: f"{fact} is not in the request" in day.flag(prompt_id)["reasons"]


def _slipped(prompt_id: str, plain: str) -> Check:
    """Told apart from what is made up, agrees with the plain form, and is never learned as bad."""

    def check(day: Day) -> bool:
        flag = day.flag(prompt_id)
        [row] = day.traces[day.traces["prompt_id"] == prompt_id].to_dict("records")
        told = flag["grounded"] == "yes" and flag["reasons"][0].startswith(SLIP)
        same = agrees(str(row["output"]), plain, row["contract"])
        learned = set(day.pairs.loc[day.pairs["prompt_id"] == prompt_id, "chosen"]) - {plain}
        return told and same and not learned and "kto_neg" not in day.kinds(prompt_id)

    return check


def _learned(prompt_id: str, answer: str) -> Check:
    def check(day: Day) -> bool:
        return [r["completion"][0]["content"] for r in day.rows if r["prompt_id"] == prompt_id] == [
            answer
        ]

    return check


def _asked(prompt_id: str, *turns: tuple[str, str]) -> Check:
    def check(day: Day) -> bool:
        [row] = [row for row in day.rows if row["prompt_id"] == prompt_id]
        return [(turn["role"], turn["content"]) for turn in row["prompt"]] == list(turns)

    return check


def _one(name: str, *prompt_ids: str) -> Check:
    return lambda day: len(_values(day, name, prompt_ids)) == 1


def _several(name: str, *prompt_ids: str) -> Check:
    return lambda day: len(_values(day, name, prompt_ids)) == len(prompt_ids)


def _values(day: Day, name: str, prompt_ids: tuple[str, ...]) -> set[Any]:
    return set(day.traces.set_index("prompt_id").loc[list(prompt_ids), name])


def _excluded(prompt_id: str, word: str) -> Check:
    def check(day: Day) -> bool:
        why = day.selection.excluded.set_index("prompt_id")["reason"]
        return word in why[prompt_id]

    return check


SHOP = ("system", "Sort the request of a bicycle shop's customer.")
BAD_CONTRACTS = {
    f"contract_{name}": [
        *(_flag(f"{mark}-{number}", "yes") for number in range(3)),
        _flag(f"{mark}-bad", "no" if name == "slow_pattern" else "cannot_tell"),
    ]
    for mark, name in {
        "c1": "label_without_labels",
        "c3": "labels_null",
        "c4": "json_without_schema",
        "c6": "bad_pattern",
        "c7": "max_words_text",
        "c9": "boolean_part",
        "cs": "slow_pattern",
    }.items()
}
RIGHT: dict[str, list[Check]] = {
    "k01-anthropic-style": [_column("tokens_in", cache_1=3914), _stored("good-1", "good-2")],
    "k01-cache-only": [_column("tokens_in", cache_2=2048)],
    "k02-dated-model": [lambda day: _values(day, "cost_usd", ("price-1", "price-2")) == {0.00078}],
    "k02-provider-prefix": [_column("cost_usd", price_3=0.00078, price_4=0.00075)],
    "k03-surrogate-answer": [_refused("half a character", stored=2)],
    "k03-surrogate-request": [_refused("half a character", stored=1)],
    "k04-line-separator": [_learned("sep-1", "delivery")],
    "k04-next-line": [_learned("sep-2", "Dear customer,\x85the fork is in stock.")],
    "k05-text-parts": [
        _asked("part-1", ("user", "My brake pads are worn.\nWhich ones fit a 2019 model?")),
        _asked("part-2", ("system", "Sort the request."), ("user", "Return my helmet please")),
    ],
    "k05-tool-call-null-content": [_stored("tool-1")],
    "k05-image-part": [_excluded("part-3", "no text")],
    "k06-answer-null": [_refused("the answer is a tool call", stored=1)],
    "k07-tools-metadata": [_stored("extra-1", "extra-2", "extra-3")],
    "k08-null-tokens": [_column("tokens_in", null_1=0, null_2=120)],
    "k09-integer-ids": [
        _stored("4711", "id-2"),
        lambda day: "4711" in set(day.feedback["prompt_id"]),
    ],
    "k10-nanoseconds": [_at("time-1", "time-2", "time-3")],
    "k10-naive-and-mail": [_at("time-5", "time-6")],
    "k10-year-one": [_refused("no time was logged", stored=2)],
    "k11-bom": [_stored("file-1", "file-2")],
    "k11-array": [_stored("file-1", "file-2")],
    "k11-pretty": [_stored("file-1")],
    "k11-gzip": [_stored("file-1", "file-2")],
    "k12-nul-answer": [_refused("NUL", stored=1)],
    "k12-nan-logprobs": [_refused("nan is no number", stored=1)],
    "k13-deep": [_refused("nested too deep", stored=1)],
    "k14-tool-call-differs": [_several("dedup_key", "dd-1", "dd-2")],
    "k14-same-id-other-call": [_refused("already stored with another messages", stored=1)],
    "k15-parts-are-text": [
        _one(name, "eq-1", "eq-2", "eq-3") for name in ("dedup_key", "template_hash", "split")
    ],
    "k16-developer-role": [
        _several("template_hash", "dev-1", "dev-2"),
        _asked("dev-1", ("system", "Answer with one label."), ("user", "My order came twice")),
    ],
    "k17-feedback-is-text": [_refused("not a JSON object but str", stored=1)],
    "k18-before-first-day": [_stored("day-1", "day-2", "good-22")],
    "k19-answer-inside": [_asked("in-1", ("user", "Where is my bicycle pump?"))],
    "k23-thousands": [_not_made_up("num-1", "num-2", "num-3", "num-4")],
    "k23-number-words": [_not_made_up("num-5", "num-6")],
    "k23-swallowed-zeros": [_made_up("num-7", "'3'"), _made_up("num-8", "'2.1'")],
    "k24-dates": [_not_made_up("date-1", "date-2"), _made_up("date-3", "'2026-07-05'")],
    "k25-chinese": [_flag("zh-2", "yes"), _not_made_up("zh-1", "zh-2"), _made_up("zh-3", "'5'")],
    "k25-japanese": [_flag("ja-1", "yes")],
    "k20-label-punctuation": [
        *(_slipped(f"lab-{number}", "delivery") for number in range(4)),
        # They are one request, of which one row is kept.
        _learned("lab-0", "delivery"),
    ],
    "k20-label-composed": [_slipped("lab-nfd", "Rückgabe")],
    "k21-tags-list": [_slipped(f"tag-{number}", "delivery, refund") for number in range(3)],
    "k22-json-fence": [_slipped("js-1", '{"intent": "refund", "bikes": 1}'), _flag("js-2", "yes")],
    "k22-json-prose": [_slipped("js-3", '{"intent": "repair"}')],
    "k26-agreement-chinese": [
        lambda day: agrees(
            "您的车铃将于本周四送达。", "您的车铃将在本周四送达。", {"kind": "text"}
        ),
        lambda day: not agrees("您的车铃会送达。", "您的车铃不会送达。", None),
    ],
    "k27-max-tokens": [_no_target("cut-1"), _flag("cut-1", "no")],
    "k27-length-no-contract": [_no_target("cut-2")],
    "k28-empty-answer": [lambda day: day.kinds("emp-1") == set()],
    "k29-think-label": [_flag("th-1", "yes"), _learned("th-1", "delivery")],
    "k29-think-text": [_flag("th-2", "yes")],
    "k30-tool-arguments": [_not_made_up("gr-1")],
    "k30-question-beside-context": [_flag("gr-2", "yes")],
    "k31-label-without-labels": [_flag("con-1", "cannot_tell")],
    "k31-json-without-schema": [_flag("con-2", "cannot_tell"), _flag("con-3", "cannot_tell")],
    "k32-generated-schema": [
        _flag("sc-1", "yes"),
        _flag("sc-2", "no"),
        lambda day: "count" in str(day.flag("sc-2")["reasons"]),
    ],
    "k33-agent-steps": [
        lambda day: bool(
            day.signals.query("prompt_id.str.startswith('run-a')")["reasked_minutes"].isna().all()
        )
    ],
    "k35-template-roles": [
        _asked("tp-1", ("system", "Sort the request."), ("user", "Hello\n\nMy pump is lost"))
    ],
    "k41-addresses": [
        _not_made_up("ad-1", "ad-2"),
        _made_up("ad-3", "'https://shop.example/returns-2026'"),
    ],
    "reviewed_conflict": [_column("output", rc="delivery"), lambda day: "bad" not in _words(day)],
    "same_id_other_model": [_refused("another model, producer", stored=1)],
    "same_id_roles_swapped": [_refused("another messages", stored=1)],
    "review_from_2999": [lambda day: day.feedback.query("kind == 'review'")["value"].eq(0).all()],
    "answer_markdown": [_stored("md0", "md1", "md2")],
    "bom": [_stored("bom-1", "bom-2")],
    "feedback_year_one": [_refused("no time was logged", stored=2)],
    "integer_of_5000_digits": [_refused("thousands of digits", stored=2)],
    "logprobs_minus_infinity": [_refused("-inf is no number", stored=2)],
    "nested_content": [_refused("nested too deep", stored=2)],
    "nul_in_answer": [_refused("NUL", stored=2)],
    "nul_in_id": [_refused("NUL", stored=2)],
    "route_nan": [_refused("nan is no number", stored=2)],
    "sheet_formula_fullwidth": [_stored(*(f"ff{number}" for number in range(5)))],
    "surrogate_in_answer": [_refused("half a character", stored=2)],
    "surrogate_in_id": [_refused("half a character", stored=2)],
    "tokens_2_to_31": [_refused("2147483647", stored=2)],
    "traces_for_sheets": [_stored("desk-1", "desk-2")],
    "year_one": [_refused("no time was logged", stored=2)],
    # What a student makes of these is in test_cases_learned.py.
    "k34-long-answer": [_stored("long-1")],
    "k36-tool-arguments-text": [_stored("ar-1")],
    "k37-control-marks": [_stored("mark-1")],
    "cost_infinity": [lambda day: bool(day.traces["cost_usd"].sum() < 1e9)],
    **BAD_CONTRACTS,
}


def _words(day: Day) -> str:
    return " ".join(day.pairs["reason"])
