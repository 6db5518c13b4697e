from loop_pipeline.labels.hallucination.detector import COLUMNS, flag_hallucinations, request_text

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
    flags = flag_hallucinations(make_traces(*rows))
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
    flags = flag_hallucinations(make_traces(*rows))
    assert flags.index[flags["flag"]].tolist() == [7]


def test_text_parts_and_empty_messages_are_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}]
    messages = [{"role": "user", "content": parts}, {"role": "tool", "content": None}]
    assert request_text(messages, "ctx").split() == ["a", "ctx"]


def test_no_traces_no_flags(make_traces) -> None:
    assert list(flag_hallucinations(make_traces({}).iloc[:0]).columns) == COLUMNS
