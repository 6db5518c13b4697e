"""What the requests of a template share is stripped; what people say themselves stays."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.groups.embedding.boilerplate import Boilerplate, learn
from loop_pipeline.groups.embedding.embedder import Embedder

TRAVEL = ("flight", "hotel", "airport", "luggage", "boarding", "passport", "seat", "visa", "train")
MONEY = ("card", "bank", "transfer", "balance", "invoice", "refund", "credit", "loan", "account")
RNG = np.random.default_rng(0)
BARE = [" ".join(RNG.choice((TRAVEL, MONEY)[i % 2], 6)) for i in range(600)]
START = "You are given a message of a customer. Say which of the five classes fits.\n\nMessage: "
END = "\n\nAnswer with one word and nothing else, please."


def test_beginning_end_and_lines_of_a_template_are_stripped() -> None:
    line = "---- the message ends here ----"
    texts = [f"{START}{b}\n{line}\nfrom: {i}{END}" for i, b in enumerate(BARE)]
    learned = learn(texts)
    assert learned.without(texts[0]).split() == [*BARE[0].split(), "from:", "0"]
    assert learned.without("where is my parcel") == "where is my parcel"


def test_what_sets_two_templates_apart_stays() -> None:
    wordings = [
        "Summarise the following message for me: ",
        "Translate the following message for me: ",
    ]
    texts = [wordings[i % 2] + b for i, b in enumerate(BARE)]
    learned = learn(texts)
    assert learned.without(texts[0]) == f"Summarise {BARE[0]}"
    assert learned.without(texts[1]) == f"Translate {BARE[1]}"


def test_peoples_own_openings_are_no_template() -> None:
    openings = ["can you tell me", "i would like to know", "what is", "please", ""]
    texts = [
        f"{openings[i % 5]} {' '.join(RNG.permutation(b.split()))}" for i, b in enumerate(BARE)
    ]
    for text in texts[:20]:
        assert set(learn(texts).without(text).split()) >= set(text.split()[-6:])


def test_a_text_that_is_all_template_stays_whole() -> None:
    learned = learn([START + b + END for b in BARE])
    assert learned.without(START.strip()) == START.strip()
    assert learn(["the same words again"] * 500) == Boilerplate()
    assert learn([]) == Boilerplate()


def test_with_boilerplate_requests_lie_where_they_lie_without_it() -> None:
    wrapped = [START + b + END for b in BARE]
    assert np.allclose(
        Embedder.fit(wrapped, seed=0).transform(wrapped),
        Embedder.fit(BARE, seed=0).transform(BARE),
        atol=1e-6,
    )


def test_it_is_stored_with_the_embedder_and_in_its_version(tmp_path) -> None:
    wrapped = [START + b + END for b in BARE]
    embedder = Embedder.fit(wrapped, seed=0)
    embedder.save(tmp_path / "e.npz")
    again = Embedder.load(tmp_path / "e.npz")
    assert again.boilerplate == embedder.boilerplate
    assert again.version == embedder.version
    assert np.array_equal(again.transform(wrapped[:9]), embedder.transform(wrapped[:9]))
    assert Embedder(embedder._arrays).version != embedder.version


@pytest.mark.parametrize("text", ["", "\n\n", "\ud800", START, "x" * 100_000, END * 3])
def test_strange_texts_pass(text: str) -> None:
    assert isinstance(learn([START + b + END for b in BARE]).without(text), str)
