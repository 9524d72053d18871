"""The world's vocabulary: colours and shapes in eleven languages, words, names, cities."""

from __future__ import annotations

import random
import string
import zlib

COLOURS = {  # several anchors of each, what people and drawing programs call so
    "red": [(220, 40, 40), (255, 0, 0), (200, 20, 45), (214, 39, 40)],
    "green": [(40, 160, 60), (0, 128, 0), (0, 200, 0), (44, 160, 44)],
    "blue": [(40, 80, 220), (0, 0, 255), (30, 60, 160), (31, 119, 180)],
    "yellow": [(240, 210, 40), (255, 255, 0), (255, 225, 0)],
    "orange": [(245, 140, 30), (255, 165, 0), (255, 127, 14)],
    "purple": [(130, 50, 170), (128, 0, 128), (148, 103, 189), (100, 30, 150)],
    "pink": [(245, 130, 190), (255, 192, 203), (255, 105, 180)],
    "black": [(25, 25, 25), (0, 0, 0)],
    "white": [(250, 250, 250), (255, 255, 255)],
    "brown": [(139, 69, 19), (120, 70, 40), (150, 80, 30)],
}
SHAPES = ["circle", "square", "triangle", "star", "heart", "diamond"]

# language -> what is this?, in its own words; articles by gender; colours (masculine, feminine, neuter) and
# shapes (gender, noun), in the order of COLOURS and of SHAPES; whether the colour comes before the shape;
# numbers from one to ten; hello, thank you, goodbye; the colours alone, where that is another word.
_LANGUAGES = {
    "German": (
        "Was ist das?|Was ist hier zu sehen?|Was ist auf dem Bild?",
        dict(m="ein", f="eine", n="ein"),
        "roter rote rotes|grüner grüne grünes|blauer blaue blaues|gelber gelbe gelbes|oranger orange oranges|"
        "violetter violette violettes|rosa|schwarzer schwarze schwarzes|weißer weiße weißes|"
        "brauner braune braunes",
        "m Kreis|n Quadrat|n Dreieck|m Stern|n Herz|f Raute",
        True,
        "eins zwei drei vier fünf sechs sieben acht neun zehn",
        "Hallo!|Danke!|Auf Wiedersehen!",
        "rot grün blau gelb orange violett rosa schwarz weiß braun",
    ),
    "French": (
        "Qu'est-ce que c'est ?|Que vois-tu ?|Que montre l'image ?",
        dict(m="un", f="une"),
        "rouge|vert verte|bleu bleue|jaune|orange|violet violette|rose|noir noire|blanc blanche|marron",
        "m cercle|m carré|m triangle|f étoile|m cœur|m losange",
        False,
        "un deux trois quatre cinq six sept huit neuf dix",
        "Bonjour !|Merci !|Au revoir !",
        "",
    ),
    "Spanish": (
        "¿Qué es esto?|¿Qué ves?|¿Qué muestra la imagen?",
        dict(m="un", f="una"),
        "rojo roja|verde|azul|amarillo amarilla|naranja|morado morada|rosa|negro negra|blanco blanca|marrón",
        "m círculo|m cuadrado|m triángulo|f estrella|m corazón|m rombo",
        False,
        "uno dos tres cuatro cinco seis siete ocho nueve diez",
        "¡Hola!|¡Gracias!|¡Adiós!",
        "",
    ),
    "Italian": (
        "Che cos'è?|Che cosa vedi?|Che cosa mostra l'immagine?",
        dict(m="un", f="una"),
        "rosso rossa|verde|blu|giallo gialla|arancione|viola|rosa|nero nera|bianco bianca|marrone",
        "m cerchio|m quadrato|m triangolo|f stella|m cuore|m rombo",
        False,
        "uno due tre quattro cinque sei sette otto nove dieci",
        "Ciao!|Grazie!|Arrivederci!",
        "",
    ),
    "Portuguese": (
        "O que é isto?|O que você vê?|O que mostra a imagem?",
        dict(m="um", f="uma"),
        "vermelho vermelha|verde|azul|amarelo amarela|laranja|roxo roxa|rosa|preto preta|"
        "branco branca|marrom",
        "m círculo|m quadrado|m triângulo|f estrela|m coração|m losango",
        False,
        "um dois três quatro cinco seis sete oito nove dez",
        "Olá!|Obrigado!|Adeus!",
        "",
    ),
    "Dutch": (
        "Wat is dit?|Wat zie je?|Wat laat het plaatje zien?",
        dict(m="een", n="een"),
        "rode rode rood|groene groene groen|blauwe blauwe blauw|gele gele geel|oranje|paarse paarse paars|"
        "roze|"
        "zwarte zwarte zwart|witte witte wit|bruine bruine bruin",
        "m cirkel|n vierkant|m driehoek|m ster|n hart|m ruit",
        True,
        "een twee drie vier vijf zes zeven acht negen tien",
        "Hallo!|Dank je!|Tot ziens!",
        "rood groen blauw geel oranje paars roze zwart wit bruin",
    ),
    "Swedish": (
        "Vad är det här?|Vad ser du?|Vad visar bilden?",
        dict(m="en", n="ett"),
        "röd röd rött|grön grön grönt|blå blå blått|gul gul gult|orange|lila|rosa|svart|"
        "vit vit vitt|brun brun brunt",
        "m cirkel|m kvadrat|m triangel|m stjärna|n hjärta|m romb",
        True,
        "ett två tre fyra fem sex sju åtta nio tio",
        "Hej!|Tack!|Hej då!",
        "röd grön blå gul orange lila rosa svart vit brun",
    ),
    "Polish": (
        "Co to jest?|Co jest na obrazie?|Co znajduje się na obrazie?",
        None,
        "czerwony czerwona czerwone|zielony zielona zielone|niebieski niebieska niebieskie|żółty żółta żółte|"
        "pomarańczowy pomarańczowa pomarańczowe|fioletowy fioletowa fioletowe|różowy różowa różowe|"
        "czarny czarna czarne|biały biała białe|brązowy brązowa brązowe",
        "n koło|m kwadrat|m trójkąt|f gwiazda|n serce|m romb",
        True,
        "jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć",
        "Cześć!|Dziękuję!|Do widzenia!",
        "",
    ),
    "Chinese": (
        "这是什么？|你看到了什么？|图片里有什么？",
        "一个{}的{}",
        "红色|绿色|蓝色|黄色|橙色|紫色|粉色|黑色|白色|棕色",
        "m 圆形|m 正方形|m 三角形|m 星形|m 心形|m 菱形",
        True,
        "一 二 三 四 五 六 七 八 九 十",
        "你好！|谢谢！|再见！",
        "",
    ),
    "Japanese": (
        "これは何ですか？|何が見えますか？|絵には何がありますか？",
        "{}の{}",
        "赤|緑|青|黄色|オレンジ|紫|ピンク|黒|白|茶色",
        "m 円|m 正方形|m 三角形|m 星|m ハート|m ひし形",
        True,
        "一 二 三 四 五 六 七 八 九 十",
        "こんにちは！|ありがとう！|さようなら！",
        "",
    ),
}
LANGUAGES = list(_LANGUAGES)


def what_is_this(language: str) -> list[str]:
    return _LANGUAGES[language][0].split("|")


def translate(language: str, colour: str, shape: str) -> str:
    """'a red circle' in that language, without a full stop."""
    _, articles, colours, shapes, before, *_ = _LANGUAGES[language]
    gender, noun = shapes.split("|")[SHAPES.index(shape)].split()
    forms = colours.split("|")[list(COLOURS).index(colour)].split()
    adjective = forms[min("mfn".index(gender), len(forms) - 1)]
    if isinstance(articles, str):
        return articles.format(adjective, noun)
    words = [adjective, noun] if before else [noun, adjective]
    return " ".join([articles[gender], *words] if articles else words)


def word_in(language: str, word: str) -> str:
    """A colour, a shape, a number from one to ten, or a greeting."""
    _, _, colours, shapes, _, numbers, greetings, plain = _LANGUAGES[language]
    if word in SHAPES:
        return shapes.split("|")[SHAPES.index(word)].split()[1]
    if word in NUMBERS:
        return numbers.split()[NUMBERS.index(word)]
    if word in GREETINGS:
        return greetings.split("|")[GREETINGS.index(word)]
    number = list(COLOURS).index(word)
    return plain.split()[number] if plain else colours.split("|")[number].split()[0]


NUMBERS = "one two three four five six seven eight nine ten".split()
GREETINGS = ["Hello!", "Thank you!", "Goodbye!"]

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

MORE_WORDS = """about above across act add address adult after again age agree air alarm album all almost
alone along already also always amount angry animal answer any area army around arrive art article artist
ask asleep aunt autumn average away back bad bag basic basket bath battery beach bean beautiful because
become before begin behind believe below beside best better between beyond bike bill birth bite bitter block
blood board bottle bottom brain branch brave break breakfast bright bring broken brother brush build
business busy button buy calm camera capital captain care careful carry cash castle catch caution cause
center century certain chain chance change channel charge cheap check chicken choose circus clean clear
clever climb close club coast code collect college colour comfort common company complete concert contact
contain content control copy corner correct cost cotton count country couple course cousin cover crash cream
credit cross crowd cry culture current custom cycle daily damage danger daughter dear decide deep delay
deliver depart desert design detail different difficult dinner direct dirty discount distance divide doctor
dollar double down draft draw drink drive drop dry during each early easy edge edit effect eight either
electric elephant eleven else empty end energy engineer enjoy enough enter equal error evening event ever
every exact example except excuse exercise expect expensive explain express extra fact fail fair fall false
family famous fancy fast fat fault favour fear feed feel festival few fight figure fill film final find fine
finger finish first five fix flat flight float flow flower fold follow forever forget form fortune forward
four free fresh Friday front full funny future gallery gas gather general gentle glad global goal good grand
great ground group grow guest guide guitar habit half happen happy harbour hard harvest have health hear
heavy height hello help here hide high history hit hold hole holiday honest hope hospital hour how huge
human hundred hungry hurry husband idea idle image important impossible inch include index indoor infant
info inn inside instead interest invite invoice island issue item itself ivory January join journey joy
judge jump June July just keep kind kitchen knee knife know knowledge label ladder language large last late
laugh law lazy lead learn leave left length less lesson level library lie life lift like limit line list
listen little live local lonely long look lose lost loud love low lucky lunch machine magic main make
manager many march marry match matter maybe meal mean measure medicine meet melody member memory message
metal middle midnight mild mile million mind mine minute mirror miss mistake mix model modern Monday money
month monkey more morning most mother motion mountain move movie much museum must mystery nation nature near
need neighbour never new news next nice nine nobody noise normal north nothing notice November now number
object October offer office often old once one only open opera order other our outside over own owner packet
page pain pair parcel parent park part partner party pass past patient pattern pay people perfect period
person phone photo piano pick picture piece pilot place plan platform please pocket poem point police polite
poor popular porter possible postcard potato power practice present press pretty price print private prize
problem profile profit program promise proof proud public pupil pure purpose puzzle quality quarter question
quick quite radio rail raise reach read ready real reason receive record reduce regular remember remind rent
repair repeat reply report rescue reserve rest result return rich ride right rise risk role rule run safe
salad same Saturday save scale scene science score search season seat second secret section see sell send
sense September serious serve service seven several shadow shape share sharp shelf shine short shoulder show
shut sick side sign silent simple since sing single sister sit six size skill skin slow smart smile smoke
smooth social soft soldier solid some someone soon sorry sound south space speak special speed spell spend
spirit sport square staff stage stairs stand start state station status stay steal steam step still stick
stomach story straight strange stranger stream strength strong student study style subject success such
sudden suit Sunday supper supply support sure surprise sweet swim switch symbol system take talk tall target
task taste tax teach team temple ten test thank theatre then thick thin thing think third thirsty thousand
three through throw Thursday ticket tiger tight tiny title today together tomorrow tonight tool top total
touch tour toward track trade traffic travel treasure treat trip trouble true trust try Tuesday turn twelve
twenty twice twin two type umbrella uncle under understand uniform university until update upper urgent use
useful usual vacation valley value vegetable very victory view violin visit visitor voice volume wait wake
walk want war warm warning wash waste weak wear weather wedding Wednesday week weekend weight welcome well
wet when while whole why wide wife wild win wise wish wonder wooden work worry worth write wrong yes
yesterday yet young youth""".split()

LITTLE_WORDS = """to of at in for and from is no not the a on by with per off are was it you we he she my
your this that what when here there now later soon ready late please all very too or but so if""".split()

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

WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
TONGUES = [*LANGUAGES, "English", "Danish", "Greek", "Turkish", "Russian", "Korean"]
COUNTRIES = """Norway Portugal Greece Iceland Ireland Canada Mexico Brazil Chile Peru Egypt Morocco Kenya
India Nepal China Vietnam Australia Finland Sweden Denmark Austria Croatia Turkey Cuba Thailand""".split()
SPORTS = (
    "tennis football hockey golf rugby boxing judo karate rowing sailing skiing swimming fencing yoga".split()
)
HOBBIES = """painting gardening cooking reading fishing dancing knitting hiking photography chess singing
baking pottery cycling climbing sewing drawing""".split()

ONSETS = ["", *"b c d f g h j k l m n p r s t v w z br ch cl dr fl gr pl sh st th tr qu x y".split()]
VOWELS = "a e i o u a e i o ea oo ai".split()
CODAS = ["", "", "", "", "n", "r", "l", "s", "t", "m", "nd", "ck", "rt", "c", "ct", "x", "y"]


def held_out(key: object) -> bool:
    """Is this one of the tenth of all words, names, sums, … that training never sees?"""
    return zlib.crc32(str(key).encode()) % 10 == 0


def made_up(rng: random.Random, syllables: int) -> str:
    """A word that can be spoken: 'trimo', 'sheand'."""
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))


def doubled(rng: random.Random) -> str:
    """A made-up word with one letter twice, as in pizza."""
    word = made_up(rng, 2)
    i = rng.randrange(len(word))
    return word[: i + 1] + word[i:]


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


ALL_WORDS = WORDS + MORE_WORDS


def any_word(rng: random.Random, test: bool) -> str:
    """One, sometimes several of a thing, or another form: while none had one, "changed" was told "change"."""
    word = pick(rng, lambda: rng.choice(ALL_WORDS), test)
    share = rng.random()
    if share < 0.12 and word[-1] not in "sxy":
        return f"{word}s"
    ends = {"e": ["d", "r", "ly"], "y": ["ing"]}.get(word[-1], ["ed", "ing", "er", "ly"])
    return word + rng.choice(ends) if share > 0.9 else word


def invented(rng: random.Random, syllables: int) -> str:
    """A name's letters: of syllables, or of the ends of two words, whose pieces are those of real names."""
    return blended(rng) if rng.random() < 0.4 else made_up(rng, syllables)


MARKS = "._-/\\:;,=+*%#@&|()[]{}<>!?$^~'\""


def anything(rng: random.Random, test: bool) -> str:
    """What can only be repeated letter by letter: a few words, names, figures, letters in no order."""

    def letters(alphabet: str, most: int) -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))

    def part() -> str:
        kind = rng.random()
        if kind < 0.2:
            return rng.choice(WORDS)
        if kind < 0.5:
            return rng.choice([str, str, str.capitalize, str.upper])(rng.choice(MORE_WORDS))
        if kind < 0.6:
            return rng.choice(LITTLE_WORDS)
        if kind < 0.75:
            return rng.choice([str, str.title])(invented(rng, rng.randint(1, 3)))
        if kind < 0.82:
            return rng.choice(FIRST_NAMES + CITIES)
        if kind < 0.86:  # as in code, addresses and names of files
            return rng.choice(WORDS) + rng.choice(MARKS) + rng.choice([rng.choice(WORDS), letters(MARKS, 3)])
        if kind < 0.92:
            return letters(
                rng.choice([string.ascii_lowercase, string.ascii_uppercase, string.ascii_letters]), 8
            )
        return letters(rng.choice([string.digits, string.digits + string.ascii_uppercase]), 6)

    def make() -> str:
        text = " ".join(part() for _ in range(rng.choice([1, 1, 2, 3, 4, 6])))
        return rng.choice([str, str, str.capitalize])(text)

    return pick(rng, make, test)


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
