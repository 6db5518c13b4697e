from loop_pipeline.training.endings import cut_short, ending

DONE = {"ended_by": "validation loss", "steps": 400, "steps_planned": 672}


def test_a_training_that_came_to_its_end_needs_no_word() -> None:
    assert cut_short([ending("base model", DONE), ending("adapter", {"steps": 121})]) == ""


def test_what_the_clock_and_the_money_ended_is_one_sentence_with_what_to_do() -> None:
    base = {"ended_by": "clock", "steps": 78, "steps_planned": 672}
    adapter = {"ended_by": "money", "steps": 14, "steps_planned": 121}
    said = cut_short([ending("base model", base, "/made/base"), ending("adapter", adapter)])
    assert said.count(".") == 1
    assert said.endswith(".")
    assert "by max_minutes and max_usd" in said
    assert "the base model at step 78 of 672 and the adapter at step 14 of 121" in said
    assert "remove /made/base, give it more time" in said


def test_only_what_was_cut_short_is_named() -> None:
    short = {"ended_by": "clock", "steps": 14, "steps_planned": 121}
    said = cut_short([ending("base model", DONE, "/made/base"), ending("adapter", short)])
    assert "base" not in said
    assert "the adapter at step 14 of 121" in said
