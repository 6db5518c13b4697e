import random
import time

import pytest

from loop_pipeline.answers.facts import fact_spans, unsupported_facts

# A source, answers that say the same in another form, and answers that do not.
SAID = [
    (
        "Das Rad kostet 4.350 Euro.",
        [
            "4350 Euro",
            "4,350 euros",
            "4 350 €",
            "4’350 CHF",
            "4\u202f350 €",
            "4.350,00 €",
            "€4,350.00",
            "４３５０",
            "٤٣٥٠",
            "४३५०",
            "四千三百五十",
            "4,35k",
            "4.35 thousand",
            "viertausenddreihundertfünfzig",
            "four thousand three hundred and fifty",
            "quatre mille trois cent cinquante",
            "cuatro mil trescientos cincuenta",
        ],
        [
            "4.35 Euro",
            "435 Euro",
            "4351",
            "4.305 Euro",
            "four thousand three hundred and fifteen",
            "43.50",
            "4,530",
        ],
    ),
    (
        "Price 12,34,567 rupees",
        ["1234567", "12.34567 lakh", "1,234,567", "12,34,567"],
        ["12,34,568", "123456"],
    ),
    (
        "It costs 1.2 million dollars",
        [
            "$1.2M",
            "1,200,000",
            "1.2 million",
            "1,2 Mio.",
            "120万",
            "1.2 millones de dólares",
            "1.2 مليون",
        ],
        ["1.2 billion", "$1.2", "12 million", "1,200"],
    ),
    ("We have 120万 yen", ["1,200,000", "1.2 million"], ["120 yen", "12万"]),
    ("5k users", ["5,000 users", "5000"], ["50k", "500"]),
    (
        "Revenue went from 1.2 to 1.5 million",
        ["from 1.2 million to 1.5 million", "1.2-1.5 million"],
        ["1.3 million"],
    ),
    (
        "It is 14 days",
        [
            "fourteen days",
            "vierzehn Tage",
            "quatorze jours",
            "catorce días",
            "十四天",
            "१४ दिन",
            "١٤ يوما",
            "14天",
            "14日間",
        ],
        ["15 days", "forty days", "vierzig Tage", "quinze jours of 15", "十五天", "१५ दिन", "41"],
    ),
    ("the third puncture", ["3rd puncture", "3. Reifen", "number 3"], ["4th puncture"]),
    (
        "3rd floor, 21st row",
        ["third floor", "twenty-first row", "dritte Etage", "troisième étage"],
        ["fourth floor", "twenty-second row"],
    ),
    (
        "The bike comes on May 7, 2026.",
        [
            "2026-05-07",
            "07.05.2026",
            "7. Mai 2026",
            "7 mai 2026",
            "7 de mayo de 2026",
            "2026年5月7日",
            "5/7/2026",
            "7/5/2026",
            "7 May",
            "May 7th",
            "the 7th",
            "７/５/２０２６",
            "7 मई 2026",
            "٧ مايو ٢٠٢٦",
            "Thursday, May 7",
            "Donnerstag, 7. Mai 2026",
            "二〇二六年五月七日",
            "5月7日",
            "07.05.26",
            "7-May-2026",
            "May 2026",
        ],
        [
            "2026-07-05",
            "8 May 2026",
            "7 June 2026",
            "May 7, 2025",
            "5月8日",
            "6月7日",
            "Friday, May 7",
            "7. Juni 2026",
            "2026年7月5日",
            "June 2026",
        ],
    ),
    (
        "Am 04.09.2026 kommt es",
        [
            "4 September 2026",
            "September 4, 2026",
            "2026-09-04",
            "4.9.2026",
            "9/4/2026",
            "4 सितंबर 2026",
            "4 سبتمبر 2026",
            "Freitag, 4. September",
        ],
        ["April 9, 2026", "2026-04-09", "5 September 2026", "Saturday 4 September"],
    ),
    (
        "Collect it at 15:00.",
        [
            "3 pm",
            "15 Uhr",
            "15h",
            "15h00",
            "3:00 p.m.",
            "下午3点",
            "午後3時",
            "15時",
            "شام",
            "शाम 3 बजे",
            "3 مساءً",
            "3 o'clock",
            "at 15",
            "3 de la tarde",
        ],
        ["3 am", "16:00", "2 pm", "15:30", "上午3点", "4 pm", "15h30"],
    ),
    (
        "at 3:30 pm",
        ["15:30", "15.30 Uhr", "15h30", "3:30", "3点半", "half past: 15:30"],
        ["3:30 am", "15:00", "4:30 pm"],
    ),
    (
        "open 9 am to 5 pm",
        ["9:00-17:00", "09:00 to 17:00", "9-17 Uhr", "von 9 bis 17 Uhr"],
        ["9 pm", "5 am", "8-17 Uhr"],
    ),
    ("weight 5kg", ["5 kg", "5kg", "5 Kilo"], ["6 kg"]),
    ("price $5", ["5 dollars", "USD 5", "5 USD", "$5.00", "five dollars"], ["$6", "$50"]),
    ("5% off", ["5 percent", "5 %", "百分之五", "5 Prozent", "five percent", "5٪"], ["15%", "6 %"]),
    ("½ cup", ["0.5 cup", "1/2 cup", "half a cup", "0,5"], ["0.25", "1/3 cup"]),
    ("1.5 litres", ["1½ litres", "1,5 Liter", "1 ½ l", "1.50 l"], ["1.6", "15 litres"]),
    ("firmware 2.10", ["v2.10", "version 2.10", "2.10"], ["2.1", "v2.1", "2.11", "210"]),
    ("version v2.0.1", ["2.0.1", "v2.0.1"], ["2.0.2", "2.0", "2.1.0"]),
    (
        "agent 007, order A-0042",
        ["007", "A-0042", "0042"],
        ["7 agents", "A-42", "B-0042", "A-0043"],
    ),
    (
        "call 030 1234567",
        ["030-1234567", "030/1234567", "0301234567", "+49 30 1234567", "(030) 123 45 67"],
        ["030 1234568"],
    ),
    (
        "call +1 (555) 123-4567",
        ["555-123-4567", "+15551234567", "(555) 123 4567"],
        ["555-123-4568"],
    ),
    ("订单7731将在2天内送达", ["订单7731", "两天", "2 days", "二天"], ["5天", "7732", "三天"]),
    (
        "See https://shop.example/returns for it",
        [
            "https://shop.example/returns/",
            "http://shop.example/returns",
            "www.shop.example/returns",
            "https://www.shop.example/returns",
            "[here](https://shop.example/returns)",
            "https://SHOP.example/returns.",
            "<https://shop.example/returns>",
            "**https://shop.example/returns**",
            "https://shop.example/returns#top",
            "请看https://shop.example/returns。",
            "`https://shop.example/returns`",
        ],
        [
            "https://shop.example/returns-2026",
            "https://shop.example/",
            "https://shop.example/returns?x=1",
            "https://shop.test/returns",
            "https://shop.example/return",
        ],
    ),
    (
        "see shop.example/a%20b or https://x.example/größe",
        ["https://shop.example/a%20b", "https://x.example/gr%C3%B6%C3%9Fe"],
        ["https://x.example/gross"],
    ),
    (
        "the bell rattles",
        [
            "1. a\n2. b",
            "1) a\n2) b",
            "(1) a",
            "**1.** a",
            "**1**. a",
            "① a",
            "- 1. a",
            "### 1. A",
            "1️⃣ a",
            "a. x\nb. y",
            "> 1. a",
            "1、铃",
            "  12. x",
            "１．铃",
            "*1.* x",
            "1.\n a",
            "[1] a",
        ],
        ["14 bells", "1 2 bells x 3", "12.5 bells", "3. Mai 2026 kommt es"],
    ),
    ("fourteen bells", ["14 bells", "14"], ["15 bells", "40"]),
    (
        "7 bells",
        ["seven bells", "sieben", "Three things: the seven bells"],
        ["nine bells", "eight bells"],
    ),
    ("between 10 and 15", ["10-15", "10–15", "10 to 15", "10 bis 15"], ["15-10", "10-16"]),
    ('[3,7] and {"n":[100,200]}', ["3 and 7", "100 and 200", "3, 7"], ["8"]),
    ("temperature 25.00", ["25", "25.0"], ["2500", "250"]),
    ("4,5 km", ["4.5 km", "4,5", "4.50 km"], ["45 km", "4 km", "5 km"]),
    ("Open Monday to Friday", ["on Tuesday"], []),
    (
        "The bell arrives on Thursday",
        ["Donnerstag", "周四", "木曜日", "jueves", "Thursdays"],
        ["Friday", "周五", "金曜日", "viernes"],
    ),
    ("车铃周四到货", ["星期四", "Thursday"], ["周五", "星期三"]),
    (
        "2026-05-07T15:04:00Z",
        ["7 May 2026 at 3:04 pm", "2026-05-07 15:04", "May 7", "15:04"],
        ["15:05", "8 May"],
    ),
    ("三百五十人が参加、二〇二六年", ["350 people", "2026"], ["360", "三百六十人", "2027"]),
    ("3億5000万円", ["350,000,000 yen", "350 million", "350000000"], ["35 million", "3.6億"]),
    ("दो दिन", ["2 दिन", "२ दिन"], ["तीन दिन", "३ दिन"]),
    ("خمسة أيام", ["5 أيام", "٥ أيام"], ["٦ أيام"]),
    ("٣٬٥٠٠ ريال", ["3,500", "3500", "٣٥٠٠"], ["3600", "350"]),
    ("Seat 12A, gate B7", ["12A", "seat 12A", "gate B7"], ["12B", "gate C7"]),
    ("IBAN DE89 3704 0044 0532 0130 00", ["DE89370400440532013000"], ["DE89370400440532013001"]),
    ("24/7 support; ratio 16:9; 3/4 of it", ["24/7", "16:9", "3/4", "three quarters"], ["9:16"]),
    ("a dozen eggs", ["12 eggs", "twelve eggs"], ["13 eggs"]),
    (
        "Zweiundzwanzig Fahrräder",
        ["22 bikes", "twenty-two bikes", "vingt-deux vélos", "veintidós"],
        ["23 bikes", "zweiunddreißig"],
    ),
    (
        "quatre-vingt-dix-sept vélos et soixante-douze cloches",
        ["97", "72", "97 bikes, 72 bells"],
        ["87", "80", "60"],
    ),
    ("mil doscientos treinta euros", ["1230 euros", "1.230 €"], ["1200 euros", "1320"]),
    (
        "einhundertfünf Stück, zweitausenddreihundert Euro",
        ["105", "2300 €", "2.300 €"],
        ["150", "3200"],
    ),
    (
        "Bill 12.09. and 5/11",
        ["12 September", "12.09.", "12. September", "November 5", "11 May"],
        ["13 September"],
    ),
    ("401(k), 4K video, 3D, B2B", ["4K", "3D", "B2B"], ["5D"]),
    (
        "on 1er mai 2026 à 14h",
        ["2026-05-01", "May 1, 2026", "14:00", "2 pm"],
        ["May 2, 2026", "15:00"],
    ),
    ("Version 3.0 costs 3,0 Euro", ["version 3.0", "3 Euro"], []),
    (
        "mail ann@shop.example",
        ["ANN@shop.example", "[a](mailto:ann@shop.example)"],
        ["an@shop.example"],
    ),
]


@pytest.mark.parametrize(("source", "right"), [(s, r) for s, right, _ in SAID for r in right])
def test_a_fact_in_another_form_is_supported(source: str, right: str) -> None:
    assert unsupported_facts(right, source) == []


@pytest.mark.parametrize(("source", "wrong"), [(s, w) for s, _, wrong in SAID for w in wrong])
def test_another_fact_in_any_form_is_found(source: str, wrong: str) -> None:
    assert unsupported_facts(wrong, source)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("The bell rattles and the lamp is dim.", "Two things: bell and lamp."),
        ("Ann and Bob came.", "Both came, one of them late. Wait a second."),
        ("Open Monday to Friday.", "We are open on Wednesday."),
        ("It comes tomorrow. Today is Monday.", "It comes on Tuesday."),
        ("3 bells and 4 lamps", "Three bells and four lamps"),
    ],
)
def test_a_small_number_in_words_may_count_what_the_answer_lists(source: str, answer: str) -> None:
    assert unsupported_facts(answer, source) == []


def test_a_number_that_would_have_to_be_worked_out_is_unsupported() -> None:
    assert unsupported_facts("7 in all", "3 bells and 4 lamps") == ["7"]


def test_places_are_those_of_the_text_as_it_was_written() -> None:
    answer = "Ünter ４３５１ € am 8. Mai 2026, sonst ٩٩ — https://shop.example/x."
    found = [answer[a:b] for a, b in sorted(fact_spans(answer, "4.350 Euro am 7. Mai 2026"))]
    assert found == ["４３５１", "8. Mai 2026", "٩٩", "https://shop.example/x"]


UNITS = ["1-2 ", "1 234 ", "1.a", "2026-09-04 ", "9/4 ", "may 4 ", "one ", "三天", "九月四日", "1'"]
UNITS += [
    "3 pm ",
    "https://a.b/c ",
    "monday to ",
    "- ",
    "*",
    "(0)",
    "a.",
    "1,2",
    "下午3点",
    "½",
    "٣",
]


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_the_text_and_not_with_its_square(unit: str) -> None:
    def seconds(size: int) -> float:
        blob = unit * (size // len(unit))
        start = time.thread_time()
        unsupported_facts(blob, "x 7")
        unsupported_facts("7 at 3 pm on 2026-01-01, twelve bells, https://x.y", blob)
        return time.thread_time() - start

    # A ratio of processor times, each the least of three: sixteen times the text, and a square
    # would be 256 times the time.
    small, large = (min(seconds(size) for _ in range(3)) for size in (2_000, 32_000))
    assert large < 64 * max(small, 0.002)


def test_a_changed_digit_is_found_among_many_numbers() -> None:
    rng = random.Random(0)
    numbers = rng.sample(range(10_000, 99_999), 200)
    source = ", ".join(f"order {number}" for number in numbers)
    for number in numbers:
        changed = str(number)[:2] + str((int(str(number)[2]) + 1) % 10) + str(number)[3:]
        assert unsupported_facts(f"It is {number}.", source) == []
        if int(changed) not in numbers:
            assert unsupported_facts(f"It is {changed}.", source) == [changed]
