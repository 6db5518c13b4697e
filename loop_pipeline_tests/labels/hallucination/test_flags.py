from math import exp

import pytest

from loop_pipeline.labels.hallucination.answer_check import check_answer
from loop_pipeline.labels.hallucination.flags import COLUMNS, flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.traces.messages import source_text

TEXT = {"kind": "text", "max_words": 30}
SOURCE = (
    "The lamp Nordlicht was delivered broken on Monday. The customer from Bremen has sent two"
    " photos of the cracked shade and wants a new lamp, not her money back."
)


def _ask(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_each_tier_decides_what_it_can(make_traces) -> None:
    rows = [
        {"output": "refund", "contract": {"kind": "label", "labels": ["refund"]}},
        {"output": "gift", "contract": {"kind": "label", "labels": ["refund"]}},
        {"output": "The lamp was delivered broken on Monday.", "context": SOURCE},
        {"output": "We promise a free voucher by express courier tomorrow.", "context": SOURCE},
        {"output": "The lamp of 1999 was delivered broken.", "context": SOURCE, "contract": TEXT},
        {"output": "Berlin is a city."},
        {"output": "{}", "contract": {"kind": "json", "schema": {"oneOf": []}}},
        {"output": "refund", "contract": TEXT, "finish_reason": "length"},
    ]
    flags = flag_hallucinations(make_traces(*rows), tiers=Tiers())
    assert list(flags.columns) == COLUMNS
    assert flags["grounded"].tolist() == [
        *("yes", "no", "yes", "no", "no", "cannot_tell", "cannot_tell", "no")
    ]
    assert flags["tier"].tolist() == ["T0", "T0", "T1", "T1", "T0", "T1", "T0", "T0"]
    assert (flags["flag"] == (flags["grounded"] == "no")).all()
    assert (flags.loc[flags["grounded"] == "cannot_tell", "score"] == 0.5).all()
    reasons = flags["reasons"].map(str)
    assert "voucher" in reasons[3]
    assert "oneOf" in reasons[6]


def test_places_point_at_what_is_not_supported(make_traces) -> None:
    rows = [
        {"output": "The lamp of 1999, see www.lamp.example, is broken.", "context": SOURCE},
        {"output": "1. We promise a gratis premium voucher by courier!", "context": SOURCE},
        {"output": "The lamp was delivered broken on Monday.", "context": SOURCE},
        {"output": "gift", "contract": {"kind": "label", "labels": ["refund"]}},
        {"output": "Berlin is a city."},
    ]
    flags = flag_hallucinations(make_traces(*rows), tiers=Tiers())
    for row, spans in zip(rows, flags["spans"], strict=True):
        assert [row["output"][s["start"] : s["end"]] for s in spans] == [s["text"] for s in spans]
    facts, novel, *none = flags["spans"]
    assert [span["text"] for span in facts] == ["1999", "www.lamp.example"]
    assert {span["why"] for span in facts} == {"not in the request"}
    assert [span["text"] for span in novel] == ["promise", "gratis premium voucher", "courier"]
    assert none == [[], [], []]


def test_doubt_comes_from_the_rarest_tokens_and_never_from_the_mean(make_traces) -> None:
    rows = [
        {"output": "Berlin is a city.", "logprobs": logprobs}
        for logprobs in (
            None,
            {"mean": -0.01, "sum": -3.0},
            {"p10": -0.01, "min": -9.0, "mean": -4.0},
            {"p10": -1.0, "mean": -0.01},
            {"min": -2.0},
            {"min": float("nan")},
        )
    ]
    flags = flag_hallucinations(make_traces(*rows), tiers=Tiers())
    assert set(flags["grounded"]) == {"cannot_tell"}
    assert not flags["flag"].any()
    told = [0.5, 0.5, 1 - exp(-0.01), 1 - exp(-1), 1 - exp(-2), 0.5]
    assert flags["score"].tolist() == pytest.approx(told)


def test_one_answer_alone_gets_the_same_verdict(make_traces) -> None:
    traces = make_traces(
        {"output": "refund", "contract": {"kind": "label", "labels": ["refund"]}},
        {"output": "We promise a free voucher by courier.", "context": SOURCE},
        {"output": "Berlin is a city.", "logprobs": {"p10": -1.0}},
    )
    flags = flag_hallucinations(traces, tiers=Tiers())
    for trace, flag in zip(traces.to_dict("records"), flags.to_dict("records"), strict=True):
        verdict = check_answer(trace, tiers=Tiers())
        assert verdict == {name: flag[name] for name in verdict}


def test_common_form_is_not_invention_but_a_promise_is(make_traces) -> None:
    items = ["kettle", "toaster", "scarf", "jacket", "router", "tripod", "blender", "carpet"]
    rows = [
        {
            "messages": _ask(f"hi, my {items[i % 8]} 48{i:03d} never came, I want my money"),
            "output": f"Customer requests compensation for {items[i % 8]} 48{i:03d}.",
            "contract": TEXT,
        }
        for i in range(80)
    ]
    rows[7] |= {"output": "Customer requests compensation and gets a free premium voucher."}
    flags = flag_hallucinations(make_traces(*rows), tiers=Tiers())
    assert flags.index[flags["flag"]].tolist() == [7]


def test_text_parts_and_empty_messages_are_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}]
    messages = [{"role": "user", "content": parts}, {"role": "tool", "content": None}]
    assert source_text(messages, "ctx").split() == ["a", "ctx"]


def test_no_traces_no_flags(make_traces) -> None:
    assert list(flag_hallucinations(make_traces({}).iloc[:0], tiers=Tiers()).columns) == COLUMNS
