"""Words and names that the tasks are made of; all invented or common knowledge."""

CATEGORIES = {
    "animal": "cat dog horse cow sheep lion tiger wolf rabbit mouse eagle duck frog snake bear",
    "fruit": "apple pear plum cherry grape lemon orange banana mango peach melon fig kiwi apricot",
    "vegetable": "carrot potato onion cabbage spinach pea bean turnip leek celery radish pumpkin",
    "colour": "red blue green yellow purple orange brown black white grey pink turquoise violet",
    "tool": "hammer saw drill wrench chisel pliers screwdriver spade rake axe file level",
    "vehicle": "car bus train tram bicycle truck boat ferry plane helicopter scooter van",
    "instrument": "piano violin guitar flute drum trumpet cello harp clarinet organ banjo oboe",
    "garment": "shirt coat jacket scarf glove sock hat dress skirt sweater boot belt",
    "country": "France Spain Italy Japan Brazil Kenya Canada Egypt India Norway Peru Poland",
    "profession": "baker teacher nurse farmer pilot lawyer plumber tailor cook judge sailor clerk",
    "furniture": "table chair sofa bed desk shelf wardrobe stool bench cupboard drawer",
    "drink": "water tea coffee milk juice wine beer lemonade cocoa cider cola soda",
    "body part": "arm leg hand foot knee elbow nose ear mouth shoulder finger neck",
    "sport": "football tennis rugby hockey golf cricket boxing rowing fencing judo skiing",
    "metal": "iron copper gold silver tin lead zinc nickel aluminium platinum chromium titanium",
    "shape": "circle square triangle rectangle oval hexagon cube sphere cone pyramid cylinder",
}
CATEGORY = {name: tuple(words.split()) for name, words in CATEGORIES.items()}
NOUNS = tuple(
    word for name, words in CATEGORY.items() if name not in ("country", "colour") for word in words
)
ADJECTIVES = tuple(
    [
        "old",
        "new",
        "small",
        "large",
        "quiet",
        "noisy",
        "heavy",
        "cheap",
        "bright",
        "dusty",
        "narrow",
        "round",
        "warm",
        "rusty",
        "clean",
        "broken",
        "empty",
        "wooden",
        "famous",
        "gentle",
    ]
)
PEOPLE = tuple(
    [
        "Anna",
        "Tom",
        "Maria",
        "Ahmed",
        "Chen",
        "Olga",
        "Peter",
        "Lucia",
        "Kofi",
        "Ingrid",
        "Rajesh",
        "Emma",
        "Diego",
        "Yuki",
        "Fatima",
        "Henrik",
        "Nora",
        "Pavel",
        "Leila",
        "Marco",
        "Sofia",
        "Tunde",
        "Greta",
        "Ivan",
    ]
)
SURNAMES = tuple(
    [
        "Keller",
        "Moreau",
        "Tanaka",
        "Okafor",
        "Silva",
        "Novak",
        "Berg",
        "Haddad",
        "Rossi",
        "Lindt",
        "Ortega",
        "Mbeki",
        "Sato",
        "Weber",
        "Doyle",
        "Fischer",
        "Petrov",
        "Alvarez",
        "Khan",
        "Larsen",
    ]
)
TOWNS = tuple(
    [
        "Oslo",
        "Lima",
        "Cairo",
        "Porto",
        "Kyoto",
        "Dublin",
        "Geneva",
        "Turin",
        "Quito",
        "Ghent",
        "Malmo",
        "Tampa",
        "Leeds",
        "Accra",
        "Bergen",
        "Lyon",
        "Graz",
        "Bristol",
        "Tartu",
        "Split",
    ]
)
MONTHS = tuple(
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
)
DAYS = tuple(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
SMALL = tuple(
    [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ]
)
#: Base form, past, participle, -ing form, third person.
VERBS = tuple(
    tuple(row.split())
    for row in (
        "walk walked walked walking walks",
        "open opened opened opening opens",
        "clean cleaned cleaned cleaning cleans",
        "paint painted painted painting paints",
        "carry carried carried carrying carries",
        "study studied studied studying studies",
        "stop stopped stopped stopping stops",
        "plan planned planned planning plans",
        "write wrote written writing writes",
        "take took taken taking takes",
        "give gave given giving gives",
        "see saw seen seeing sees",
        "eat ate eaten eating eats",
        "drive drove driven driving drives",
        "break broke broken breaking breaks",
        "choose chose chosen choosing chooses",
        "know knew known knowing knows",
        "sing sang sung singing sings",
        "begin began begun beginning begins",
        "buy bought bought buying buys",
        "bring brought brought bringing brings",
        "teach taught taught teaching teaches",
        "build built built building builds",
        "send sent sent sending sends",
        "hold held held holding holds",
        "sell sold sold selling sells",
        "find found found finding finds",
        "make made made making makes",
        "lose lost lost losing loses",
        "speak spoke spoken speaking speaks",
        "forget forgot forgotten forgetting forgets",
        "steal stole stolen stealing steals",
        "wash washed washed washing washes",
        "repair repaired repaired repairing repairs",
        "visit visited visited visiting visits",
        "follow followed followed following follows",
    )
)
#: Labels for yes and no, and how an instruction names them.
YES_NO = (
    ("yes", "no"),
    ("Yes", "No"),
    ("true", "false"),
    ("True", "False"),
    ("Y", "N"),
    ("1", "0"),
    ("correct", "wrong"),
    ("OK", "BAD"),
    ("accept", "reject"),
    ("A", "B"),
)


def articled(noun: str) -> str:
    """A noun with "a" or "an"."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"
