"""What the customers of the simulated shop say: a small grammar. ``[a|b]`` is a choice.

Not here: who says it, and when (``simulated_desk.py``).

Slots: {thing} the order or product, {other} another product, {city}, {date}, {amount}, {name}.
"""

from __future__ import annotations

# A request with two concerns belongs to the label that stands first in here.
BODIES: dict[str, tuple[str, ...]] = {
    "account_access": (
        "I [cannot|can not|can't] [log in|sign in|get into my account] since {date}",
        "my password [does not work|is not accepted|is rejected] any more",
        "the [reset|confirmation] [mail|link|code] for my login [never arrives|has expired]",
        "my account [is|has been] [locked|blocked|suspended] since {date}",
        "how do I [reset|change|recover] my [forgotten |old |]password",
        "someone [has changed|took over|got into] my account",
        "your site says my login is [unknown|wrong|not valid]",
    ),
    "payment_problem": (
        "I [was|have been|got] charged [twice|two times|double] for {thing}",
        "my card was [declined|refused|rejected] when I paid for {thing}",
        "the payment for {thing} [failed|did not go through|is stuck|was interrupted]",
        "you took {amount} euros too much for {thing}",
        "there is a double [charge|booking] on my [card|statement|account] for {thing}",
        "the [discount|voucher|promo] code was not [applied|accepted|taken off] for {thing}",
        "I cannot pay for {thing}, the [checkout|page] shows an error",
    ),
    "damaged_item": (
        "{thing} [arrived|came|was delivered] [broken|cracked|damaged|smashed|scratched|dented]",
        "I [unpacked|opened|took out] {thing} and it was [in pieces|cracked|torn|broken]",
        "the [box|parcel|packaging] was crushed and {thing} is [broken|dented|cracked]",
        "{thing} got [damaged|broken|bent] [on the way|in transit|during shipping]",
        "there was [a crack|a dent|a deep scratch|a hole] in {thing} when I unpacked it",
        "a part was [broken off|snapped] when {thing} came",
    ),
    "wrong_item": (
        "you sent me [something else|the wrong thing|another article] instead of {thing}",
        "I [ordered|paid for|expected] {thing} but [got|received|found] the {other}",
        "this is not what I ordered, I expected {thing}",
        "instead of {thing} the [parcel|box|package] [had|contained] the {other}",
        "[wrong article|a mix-up] in the [parcel|box], it should have been {thing}",
        "what came is not {thing}, it is the {other}",
    ),
    "cancellation": (
        "[please|can you|could you|I want to] cancel {thing}",
        "I changed my mind, [please stop|do not send|please do not ship] {thing}",
        "I [ordered|bought] {thing} by mistake, please [cancel|stop] it",
        "is it [too late|still possible] to [cancel|stop] {thing}",
        "I no longer [want|need] {thing}, please [stop it before it ships|cancel it]",
        "call off {thing} before it [ships|is sent|leaves]",
    ),
    "address_change": (
        "please [send|deliver|ship] {thing} to {city} instead",
        "I [moved|am moving|have moved] to {city}, please change the address for {thing}",
        "[can|could] {thing} go to my [office|parents|new flat|neighbour] in {city}",
        "the [street|house number|postcode] for {thing} is wrong, it should be in {city}",
        "[change|update|correct] the delivery address of {thing} to {city}",
        "I [typed|entered] an old address for {thing}, the new one is in {city}",
    ),
    "delivery_status": (
        "where is {thing}",
        "{thing} [has not arrived|still is not here|never came|has not come] yet",
        "when will {thing} [arrive|be delivered|get here|come]",
        "the tracking of {thing} [has not moved|shows nothing] for [three|four|five] days",
        "I am still waiting for {thing} [since {date}|]",
        "[is there any|do you have] news on the delivery of {thing}",
        "has {thing} been [shipped|sent|dispatched] yet",
        "{thing} was [due|promised] on {date} and is still not here",
    ),
    "warranty": (
        "{thing} stopped working after [two months|half a year|a year], is it covered",
        "{thing} [died|gave up|failed] after [two months|eight weeks|a year], is there a warranty",
        "does the [guarantee|warranty] cover {thing}",
        "I want to make a [warranty|guarantee] claim for {thing}",
        "{thing} no longer [turns on|charges|heats] after [six months|a year], can it be repaired",
        "[can|could] you repair {thing}, it failed after [six months|a year]",
    ),
    "refund": (
        "I [want|would like|need|expect] my money back for {thing}",
        "please [refund|reimburse|pay back] {thing}",
        "[can|could|may] I get a refund for {thing}",
        "I [sent|shipped|gave] {thing} back [last week|ten days ago] and the money has not come",
        "when do I get [my|the] money back for {thing}",
        "{thing} is not what I hoped for and I want [a refund|my money back]",
        "I am [returning|sending back] {thing}, how do I get refunded",
    ),
    "exchange": (
        "I want to [swap|exchange|trade] {thing} for [another size|a new colour|a bigger one]",
        "[can|could] you [exchange|swap] {thing} for [a smaller one|another colour|a larger one]",
        "{thing} does not fit, please send [a larger one|a smaller one|another size] instead",
        "is it possible to [get|have] {thing} in [blue|black|green] instead",
        "the size of {thing} is wrong for me, I would like [a bigger|a smaller] one",
        "I would rather have {thing} in [another size|a different colour|red], can we swap",
    ),
    "invoice": (
        "[please send|I need|can I have|I am missing] [an invoice|a receipt|the bill] for {thing}",
        "my [accountant|employer|tax office] [needs|asks for] the [invoice|receipt] for {thing}",
        "where can I [download|find|print] the [invoice|receipt] for {thing}",
        "the invoice for {thing} [has|shows] the wrong [company name|VAT number]",
        "I did not [get|receive] [a receipt|an invoice] for {thing}",
    ),
    "product_question": (
        "[does|will] {thing} work with [a timer|rechargeable batteries|230 volts]",
        "how [heavy|big|loud|wide|long] is {thing}",
        "is {thing} [waterproof|dishwasher safe|made of steel|easy to clean]",
        "do you [sell|have|offer] {thing} in [red|white|oak|grey]",
        "what is the [battery life|weight|height|power] of {thing}",
        "when [is|will] {thing} [be |]back in stock",
        "which [batteries|filters|spare parts] fit {thing}",
    ),
}
LABELS = tuple(BODIES)
WEIGHTS = (7, 9, 9, 7, 8, 7, 16, 7, 11, 7, 6, 6)  # how often each label is asked for

# Nobody can tell which of the two labels is meant: the truth is a coin.
AMBIGUOUS: dict[tuple[str, str], tuple[str, ...]] = {
    ("damaged_item", "warranty"): (
        "{thing} does not work, was it damaged in transit or is this a warranty case",
        "{thing} is broken, [no idea|I cannot tell] whether it came [cracked|damaged] or failed",
    ),
    ("refund", "exchange"): (
        "I [want|would like] to return {thing}, [my money back or another size|refund or exchange]",
        "I am not happy with {thing}, I need [another colour|a bigger one] or my money back",
    ),
    ("delivery_status", "cancellation"): (
        "{thing} has not arrived yet, [should I wait or cancel|send it or cancel it]",
    ),
    ("payment_problem", "invoice"): (
        "the [invoice|receipt] for {thing} is not what my card was charged",
        "I was charged for {thing} but the [invoice|bill] shows another amount",
    ),
    ("wrong_item", "exchange"): (
        "I ordered {thing} in another [colour|size] than what I got, can you exchange it",
    ),
}

TAGS_OF: dict[str, tuple[str, ...]] = {
    "account_access": ("account",),
    "payment_problem": ("payment",),
    "damaged_item": ("damage",),
    "wrong_item": ("delivery", "return"),
    "cancellation": (),
    "address_change": ("delivery",),
    "delivery_status": ("delivery",),
    "warranty": ("repair",),
    "refund": ("return",),
    "exchange": ("return",),
    "invoice": ("payment",),
    "product_question": (),
}
# Said beside the request: how often, and in which words.
MOODS: dict[str, tuple[float, str]] = {
    "urgent": (
        0.2,
        "[it is urgent|I need this done by Friday|please hurry|as soon as possible please]",
    ),
    "angry": (0.12, "[this is ridiculous|I am really fed up|worst shop ever|I am furious]"),
    "repeat": (
        0.12,
        "[I already wrote to you twice|this is my third mail|nobody answered my last message]",
    ),
    "gift": (0.12, "[it is a present for my daughter|it was a birthday gift|it is a gift]"),
}
TAGS = tuple(sorted({tag for tags in TAGS_OF.values() for tag in tags} | set(MOODS)))

SUMMARIES: dict[str, str] = {
    "account_access": "cannot access the account",
    "payment_problem": "reports a payment problem with {object}",
    "damaged_item": "reports that {object} arrived damaged",
    "wrong_item": "received the wrong item instead of {object}",
    "cancellation": "wants to cancel {object}",
    "address_change": "wants {object} sent to {city}",
    "delivery_status": "asks where {object} is",
    "warranty": "asks for a warranty repair of {object}",
    "refund": "asks for a refund of {object}",
    "exchange": "wants to exchange {object}",
    "invoice": "needs an invoice for {object}",
    "product_question": "asks about {object}",
}
PROMISES = (
    " A refund was promised.",
    " The shop promised a free replacement.",
    " A courier comes tomorrow.",
    " The customer gets a voucher.",
)

ASIDES = (
    "my name is {name}",
    "I [ordered|bought|paid] on {date}",
    "it [cost|was] {amount} euros",
    "I live near {city}",
    "I [am writing|write] on behalf of {name}",
    "I have been a customer [since 2019|for years]",
    "I could not find [an answer|this] on your site",
)
GREETINGS = "[hello|hi|hi there|good morning|good evening|dear team|hey]"
CLOSINGS = "[thanks|thank you|many thanks|best regards|kind regards, {name}|please let me know]"
CONNECTORS = (" and also ", ", and by the way ", ". Besides, ", " and another thing, ")
THINGS: dict[str, str] = {
    "order": "[|my ]order [|no. |#]{order}",
    "product": "[the|my] {product}",
    "both": "[the|my] {product} [from order {order}|(order {order})]",
}
OBJECTS: dict[str, str] = {
    "order": "order {order}",
    "product": "the {product}",
    "both": "the {product} from order {order}",
}
# fmt: off
PRODUCTS = (
    "desk lamp", "coffee grinder", "rain jacket", "office chair", "headphones", "yoga mat",
    "toaster", "backpack", "running shoes", "bike helmet", "wall clock", "garden hose", "kettle",
    "camera bag", "keyboard", "bookshelf", "tent", "blender", "winter coat", "suitcase", "router",
    "water bottle", "drill", "carpet",
)
CITIES = (
    "Leeds", "Porto", "Ghent", "Turin", "Lyon", "Graz", "Malmo", "Cork", "Bergen", "Basel", "Delft",
    "Krakow", "Brno", "Vigo", "Aarhus", "Bremen",
)
MONTHS = ("June", "July", "August")
NAMES = (
    "Ana Costa", "Ben Ward", "Chloe Martin", "David Novak", "Elif Kaya", "Finn Olsen",
    "Greta Weiss", "Hugo Silva", "Ines Moreau", "Jan Kowalski", "Kim Larsen", "Luca Rossi",
    "Mara Petrov", "Noah Smith", "Olga Horak", "Paul Meyer", "Rosa Blanco", "Sam Taylor",
    "Tess de Vries", "Umar Ali",
)
# fmt: on
