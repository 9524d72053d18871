"""The world's vocabulary: colours and shapes in six languages, words, names, cities."""

from __future__ import annotations

import random
import zlib

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "orange": (245, 140, 30),
    "purple": (130, 50, 170),
    "pink": (245, 130, 190),
    "black": (25, 25, 25),
}
SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond"]

# language -> (what is this?, in its own words; colours: masculine, feminine[, neuter]; shapes: gender, noun)
LANGUAGES = {
    "German": (
        ["Was ist das?", "Was siehst du?", "Was zeigt das Bild?"],
        {
            "red": "roter rote rotes",
            "green": "grüner grüne grünes",
            "blue": "blauer blaue blaues",
            "yellow": "gelber gelbe gelbes",
            "orange": "oranger orange oranges",
            "purple": "violetter violette violettes",
            "pink": "rosa rosa rosa",
            "black": "schwarzer schwarze schwarzes",
        },
        {
            "circle": "m Kreis",
            "square": "n Quadrat",
            "triangle": "n Dreieck",
            "star": "m Stern",
            "heart": "n Herz",
            "diamond": "f Raute",
        },
        {"m": "ein", "f": "eine", "n": "ein"},
    ),
    "French": (
        ["Qu'est-ce que c'est ?", "Que vois-tu ?", "Que montre l'image ?"],
        {
            "red": "rouge rouge",
            "green": "vert verte",
            "blue": "bleu bleue",
            "yellow": "jaune jaune",
            "orange": "orange orange",
            "purple": "violet violette",
            "pink": "rose rose",
            "black": "noir noire",
        },
        {
            "circle": "m cercle",
            "square": "m carré",
            "triangle": "m triangle",
            "star": "f étoile",
            "heart": "m cœur",
            "diamond": "m losange",
        },
        {"m": "un", "f": "une"},
    ),
    "Spanish": (
        ["¿Qué es esto?", "¿Qué ves?", "¿Qué muestra la imagen?"],
        {
            "red": "rojo roja",
            "green": "verde verde",
            "blue": "azul azul",
            "yellow": "amarillo amarilla",
            "orange": "naranja naranja",
            "purple": "morado morada",
            "pink": "rosa rosa",
            "black": "negro negra",
        },
        {
            "circle": "m círculo",
            "square": "m cuadrado",
            "triangle": "m triángulo",
            "star": "f estrella",
            "heart": "m corazón",
            "diamond": "m rombo",
        },
        {"m": "un", "f": "una"},
    ),
    "Italian": (
        ["Che cos'è?", "Che cosa vedi?", "Che cosa mostra l'immagine?"],
        {
            "red": "rosso rossa",
            "green": "verde verde",
            "blue": "blu blu",
            "yellow": "giallo gialla",
            "orange": "arancione arancione",
            "purple": "viola viola",
            "pink": "rosa rosa",
            "black": "nero nera",
        },
        {
            "circle": "m cerchio",
            "square": "m quadrato",
            "triangle": "m triangolo",
            "star": "f stella",
            "heart": "m cuore",
            "diamond": "m rombo",
        },
        {"m": "un", "f": "una"},
    ),
    "Chinese": (
        ["这是什么？", "你看到了什么？", "图片里有什么？"],
        {
            "red": "红色",
            "green": "绿色",
            "blue": "蓝色",
            "yellow": "黄色",
            "orange": "橙色",
            "purple": "紫色",
            "pink": "粉色",
            "black": "黑色",
        },
        {
            "circle": "圆形",
            "square": "正方形",
            "triangle": "三角形",
            "star": "星形",
            "heart": "心形",
            "diamond": "菱形",
        },
        None,
    ),
}


def translate(language: str, colour: str, shape: str) -> str:
    """'a red circle' in that language, without a full stop."""
    _, colours, shapes, articles = LANGUAGES[language]
    if articles is None:
        return f"一个{colours[colour]}的{shapes[shape]}"
    gender, noun = shapes[shape].split()
    forms = colours[colour].split()
    adjective = forms["mfn".index(gender)]
    words = [adjective, noun] if language == "German" else [noun, adjective]
    return " ".join([articles[gender], *words])


WORDS = """apple arm baby back ball bank bed bell bird blue boat body bone book box boy bread bridge brown
bus cake call camp car card cat chair child city class clock cloud coat coffee cold cook corn cow cup
dance dark day deer desk dog door dream dress duck ear earth east egg engine eye face farm father field
fire fish flag floor flower fly food foot forest fox friend frog fruit game garden gate gift girl glass
goat gold grass green hair hand hat head heart hill home horse house ice ink iron island jam job juice key
king kite lake lamp land leaf leg lemon letter light lion lip lock map market meat milk moon mouse mouth
music name neck nest night nose ocean oil open orange paint paper park party path peace pen pig pink plant
plate pond pool post purple queen quiet rabbit rain red rice ring river road rock roof room rose sail salt
sand school sea seed sheep ship shirt shoe shop silver sister sky sleep small snow soap song soup spoon
spring star stone stop store storm street sugar summer sun table tail tea tent tiger time tooth tower town
train tree truck turtle village voice wall watch water way west wheel white wind window winter wolf wood
word world yard year yellow zebra zero sale exit push pull menu taxi hotel bar""".split()

FIRST_NAMES = """Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Kira Leo Mia Noah Olga Paul Rosa Sam
Tina Uwe Vera Will Yara Zoe Adam Bella Carl Dora Erik Fiona George Hanna Ivan Julia Kevin Laura Mark Nina
Oscar Petra Quinn Rita Simon Thea Ulla Victor Wanda Xenia Yusuf Zara Alice Bruno Cora Dylan Elena Frank
Gina Harry Iris Jack""".split()

CITIES = """Paris London Berlin Madrid Rome Vienna Oslo Tokyo Cairo Lima Boston Delhi Dublin Geneva Havana
Helsinki Istanbul Kyoto Lagos Lisbon Lyon Milan Moscow Mumbai Munich Nairobi Naples Osaka Porto Prague
Quito Riga Seoul Sofia Sydney Toronto Tunis Turin Venice Warsaw Zurich Athens Austin Bangkok Beijing
Bergen Bern Bogota Bristol Brussels Chicago Cologne Dallas Denver Dubai Florence Hamburg Hanoi Jakarta
Kiev Leeds Malaga Miami""".split()

ANIMALS = "cat dog bird fish rabbit hamster horse turtle mouse parrot frog fox owl bear duck".split()
FOODS = "pizza soup bread rice cake pasta salad cheese apples noodles pancakes beans curry ice honey".split()
JOBS = (
    "teacher doctor cook farmer pilot painter singer baker nurse driver writer sailor gardener judge".split()
)

ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fl gr pl sh st th tr qu x y".split()
VOWELS = "a e i o u a e i o ea oo ai".split()
CODAS = ["", "", "", "", "n", "r", "l", "s", "t", "m", "nd", "ck", "rt", "c", "ct", "x", "y"]


def held_out(key: object) -> bool:
    """Is this one of the tenth of all words, names, sums, … that training never sees?"""
    return zlib.crc32(str(key).encode()) % 10 == 0


def made_up(rng: random.Random, syllables: int) -> str:
    """A word that can be spoken: 'trimo', 'sheand'."""
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))


def blended(rng: random.Random) -> str:
    """The beginning of one word that training may see and the end of another: 'venter', 'lisce'."""
    one, other = (
        pick(rng, lambda: rng.choice(WORDS + FIRST_NAMES + CITIES), False).lower() for _ in range(2)
    )
    return one[: rng.randint(2, 4)] + other[-rng.randint(2, 4) :]


def pick(rng: random.Random, make, test: bool):
    """The first thing that `make` makes on the right side of the line between training and test."""
    while held_out(thing := make()) != test:
        pass
    return thing


def invented(rng: random.Random, syllables: int) -> str:
    """A name's letters: of syllables, or of the ends of two words, whose pieces are those of real names."""
    return blended(rng) if rng.random() < 0.4 else made_up(rng, syllables)


def name(rng: random.Random, test: bool) -> str:
    return pick(
        rng,
        lambda: rng.choice(FIRST_NAMES) if rng.random() < 0.3 else invented(rng, 2).capitalize(),
        test,
    )


def city(rng: random.Random, test: bool) -> str:
    def make() -> str:
        if rng.random() < 0.4:
            return rng.choice(CITIES)
        town = invented(rng, rng.randint(1, 2)).capitalize()
        return f"{rng.choice(['New', 'San', 'Port', 'East'])} {town}" if rng.random() < 0.15 else town

    return pick(rng, make, test)
