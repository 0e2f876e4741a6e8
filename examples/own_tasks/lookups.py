"""Tasks that need what everyone knows: tables of pairs, asked in several manners."""

from collections.abc import Iterator

from banks import CATEGORY, VERBS
from drafts import Draft, from_pairs

# Each line: what is given; the instruction; then pairs with "=" between them.
_TABLES = """
an animal; name its young; dog=puppy cat=kitten cow=calf horse=foal sheep=lamb goat=kid lion=cub \
bear=cub deer=fawn duck=duckling frog=tadpole pig=piglet hen=chick swan=cygnet kangaroo=joey
an animal; write the sound that it makes; dog=bark cat=meow cow=moo sheep=baa pig=oink \
duck=quack lion=roar wolf=howl snake=hiss horse=neigh bee=buzz owl=hoot frog=croak rooster=crow
an animal; say where it lives; bee=hive bird=nest dog=kennel horse=stable spider=web fish=water \
bear=den fox=den lion=savanna camel=desert penguin=ice monkey=jungle pig=sty whale=ocean
an animal; say how many legs it has; spider=8 dog=4 bird=2 ant=6 snake=0 cow=4 bee=6 frog=4 \
hen=2
an animal; name its class; eagle=bird shark=fish frog=amphibian snake=reptile whale=mammal \
ant=insect bat=mammal salmon=fish sparrow=bird lizard=reptile newt=amphibian beetle=insect
a country; name its continent; France=Europe Japan=Asia Brazil=America Kenya=Africa Spain=Europe \
India=Asia Egypt=Africa Canada=America Peru=America Nigeria=Africa China=Asia Poland=Europe \
Mexico=America Morocco=Africa Vietnam=Asia Greece=Europe
a country; name the language that most people speak there; France=French Spain=Spanish \
Japan=Japanese Brazil=Portuguese Germany=German Italy=Italian Mexico=Spanish Egypt=Arabic \
China=Chinese Russia=Russian Austria=German Greece=Greek Sweden=Swedish Poland=Polish \
Turkey=Turkish
a country; write the adjective for its people; France=French Spain=Spanish Japan=Japanese \
Italy=Italian Norway=Norwegian Egypt=Egyptian Canada=Canadian Peru=Peruvian Poland=Polish \
Greece=Greek Ireland=Irish Brazil=Brazilian India=Indian Kenya=Kenyan China=Chinese
a city; name its country; Paris=France Rome=Italy Tokyo=Japan Cairo=Egypt Lima=Peru Oslo=Norway \
Madrid=Spain Berlin=Germany Vienna=Austria Dublin=Ireland Delhi=India Moscow=Russia \
Athens=Greece Toronto=Canada Chicago=USA Sydney=Australia Nairobi=Kenya Lisbon=Portugal
a profession; say where this person works; teacher=school nurse=hospital baker=bakery \
farmer=farm pilot=airplane judge=court cook=kitchen librarian=library actor=theatre soldier=army \
miner=mine waiter=restaurant sailor=ship scientist=laboratory
a profession; name a tool of the trade; carpenter=hammer painter=brush tailor=needle cook=knife \
farmer=plough gardener=spade barber=scissors photographer=camera writer=pen plumber=wrench \
fisherman=net doctor=stethoscope
a tool; say what it is used for; hammer=nailing saw=cutting drill=drilling needle=sewing \
pen=writing brush=painting broom=sweeping oven=baking knife=cutting scale=weighing \
thermometer=measuring shovel=digging
a fruit or vegetable; name its usual colour; banana=yellow carrot=orange spinach=green \
lemon=yellow cherry=red plum=purple tomato=red pea=green strawberry=red aubergine=purple \
pumpkin=orange lime=green
a number word in English; write it in Spanish; one=uno two=dos three=tres four=cuatro five=cinco \
six=seis seven=siete eight=ocho nine=nueve ten=diez eleven=once twelve=doce
a number word in English; write it in German; one=eins two=zwei three=drei four=vier five=fünf \
six=sechs seven=sieben eight=acht nine=neun ten=zehn eleven=elf twelve=zwölf
a number word in French; write it in English; un=one deux=two trois=three quatre=four cinq=five \
six=six sept=seven huit=eight neuf=nine dix=ten onze=eleven douze=twelve
an Italian word; translate it into English; casa=house cane=dog gatto=cat acqua=water pane=bread \
libro=book sole=sun luna=moon mare=sea strada=street porta=door amico=friend notte=night
a German word; translate it into English; Haus=house Hund=dog Katze=cat Wasser=water Brot=bread \
Buch=book Sonne=sun Mond=moon Straße=street Tür=door Freund=friend Nacht=night Baum=tree
a colour in English; name it in French; red=rouge blue=bleu green=vert yellow=jaune black=noir \
white=blanc grey=gris brown=brun pink=rose purple=violet
a weekday in English; name it in Spanish; Monday=lunes Tuesday=martes Wednesday=miércoles \
Thursday=jueves Friday=viernes Saturday=sábado Sunday=domingo
a chemical element; write its symbol; hydrogen=H oxygen=O carbon=C iron=Fe gold=Au silver=Ag \
copper=Cu sodium=Na helium=He nitrogen=N lead=Pb calcium=Ca zinc=Zn tin=Sn
a chemical symbol; name the element; H=hydrogen O=oxygen C=carbon Fe=iron Au=gold Ag=silver \
Cu=copper Na=sodium He=helium N=nitrogen Pb=lead Ca=calcium Zn=zinc Sn=tin
a unit of measure; abbreviate it; kilometre=km metre=m centimetre=cm kilogram=kg gram=g litre=l \
second=s hour=h minute=min degree=° volt=V watt=W hertz=Hz newton=N
an abbreviation; write it out in full; km=kilometre kg=kilogram Dr=Doctor Mr=Mister Ave=Avenue \
St=Street Jan=January Dec=December Mon=Monday approx=approximately dept=department max=maximum
a month; name its season in the north; January=winter April=spring July=summer October=autumn \
February=winter May=spring August=summer November=autumn March=spring June=summer
a month; say how many days it has in an ordinary year; January=31 February=28 March=31 April=30 \
May=31 June=30 July=31 August=31 September=30 October=31 November=30 December=31
a male relative or person; write the female counterpart; father=mother brother=sister \
son=daughter king=queen uncle=aunt actor=actress prince=princess husband=wife boy=girl man=woman \
nephew=niece waiter=waitress grandfather=grandmother
an adjective; write its comparative; big=bigger small=smaller fast=faster tall=taller \
good=better bad=worse happy=happier easy=easier hot=hotter strong=stronger cheap=cheaper \
old=older late=later
an adjective; write its superlative; big=biggest small=smallest fast=fastest tall=tallest \
good=best bad=worst happy=happiest easy=easiest hot=hottest strong=strongest cheap=cheapest \
old=oldest
an adjective; turn it into an adverb; quick=quickly slow=slowly easy=easily happy=happily \
careful=carefully loud=loudly good=well quiet=quietly sudden=suddenly angry=angrily bad=badly
an adjective; turn it into a noun; happy=happiness dark=darkness strong=strength long=length \
wide=width deep=depth high=height warm=warmth kind=kindness free=freedom true=truth young=youth
a verb; name the person who does it; teach=teacher write=writer sing=singer bake=baker act=actor \
drive=driver sail=sailor paint=painter farm=farmer dance=dancer swim=swimmer invent=inventor
a singular noun; write its irregular plural; child=children mouse=mice foot=feet tooth=teeth \
man=men woman=women goose=geese leaf=leaves knife=knives sheep=sheep fish=fish person=people \
wolf=wolves
a British word; write the American word; flat=apartment lift=elevator lorry=truck biscuit=cookie \
autumn=fall holiday=vacation rubbish=trash petrol=gas queue=line trousers=pants sweets=candy
a British spelling; write the American spelling; colour=color centre=center grey=gray \
metre=meter theatre=theater favour=favor honour=honor organise=organize analyse=analyze \
catalogue=catalog
a contraction; write it in full; don't=do_not can't=cannot I'm=I_am you're=you_are isn't=is_not \
we'll=we_will they've=they_have wasn't=was_not he'd=he_would let's=let_us won't=will_not \
it's=it_is
a shape; say how many sides it has; triangle=3 square=4 pentagon=5 hexagon=6 rectangle=4 \
octagon=8
a file extension; say what kind of file it is; jpg=image mp3=audio mp4=video txt=text png=image \
wav=audio pdf=document docx=document zip=archive gif=image csv=table py=code
a sport; name what it is played with; tennis=racket golf=club hockey=stick football=ball \
chess=pieces archery=bow cricket=bat billiards=cue fencing=sword darts=dart \
badminton=shuttlecock
a material or thing; say whether it is solid, liquid or gas; ice=solid water=liquid steam=gas \
iron=solid milk=liquid oxygen=gas stone=solid oil=liquid wood=solid air=gas juice=liquid \
helium=gas
a thing; say which sense perceives it; music=hearing perfume=smell rainbow=sight soup=taste \
silk=touch thunder=hearing painting=sight smoke=smell honey=taste velvet=touch whisper=hearing
a word; say whether it is a noun, a verb or an adjective; table=noun sing=verb happy=adjective \
river=noun eat=verb tall=adjective garden=noun write=verb heavy=adjective bring=verb lamp=noun \
dusty=adjective forget=verb candle=noun polite=adjective
a person's mood; say whether it is positive or negative; joy=positive anger=negative \
hope=positive fear=negative pride=positive sorrow=negative delight=positive envy=negative \
calm=positive grief=negative
a greeting; name its language; hello=English hola=Spanish bonjour=French ciao=Italian \
hallo=German olá=Portuguese konnichiwa=Japanese privet=Russian merhaba=Turkish hej=Swedish
a word of Latin or Greek origin; write its number; bi=2 tri=3 quad=4 penta=5 hexa=6 octo=8 \
deca=10 uni=1
a planet; say whether it is nearer to the sun than the Earth, yes or no; Mercury=yes Venus=yes \
Mars=no Jupiter=no Saturn=no Uranus=no Neptune=no
a colour; write its hexadecimal code; red=#FF0000 green=#00FF00 blue=#0000FF white=#FFFFFF \
black=#000000 yellow=#FFFF00 cyan=#00FFFF magenta=#FF00FF
a domain ending; name its country; .de=Germany .fr=France .it=Italy .es=Spain .jp=Japan .uk=UK \
.ca=Canada .br=Brazil .in=India .pl=Poland .no=Norway .se=Sweden
"""

_MANNERS = (
    ("{}", ""),
    ("{}", ", in capital letters"),
    ("Answer: {}", ', after the word "Answer:"'),
    ("{}.", ", followed by a full stop"),
    ('"{}"', ", in double quotes"),
    ("The answer is {}.", ' in a sentence that begins with "The answer is"'),
)


def draft_all() -> Iterator[Draft]:
    """All families of this kind: each table plainly, and in one other manner."""
    for number, line in enumerate(_TABLES.strip().splitlines()):
        given, ask, table = (part.strip() for part in line.split(";", 2))
        pairs = [tuple(one.replace("_", " ").split("=")) for one in table.split()]
        for manner in (0, 1 + number % 5):
            form, remark = _MANNERS[manner]
            answers = [(a, form.format(b.upper() if manner == 1 else b)) for a, b in pairs]
            asks = (f"{ask}{remark}", f"{ask} and nothing else{remark}")
            yield from_pairs(f"table_{number}_{manner}", asks, given, answers)
    yield from _verbs()
    yield from _members()


def _verbs() -> Iterator[Draft]:
    forms = {
        "past": (1, "write the past tense of the verb"),
        "participle": (2, "write the past participle of the verb"),
        "gerund": (3, "write the -ing form of the verb"),
        "third": (4, "write the form of the verb that goes with he or she"),
    }
    for name, (index, ask) in forms.items():
        pairs = [(verb[0], verb[index]) for verb in VERBS]
        yield from_pairs(f"verb_{name}", (ask, ask.replace("write", "give")), "a verb", pairs)
    pairs = [(verb[1], verb[0]) for verb in VERBS]
    asks = ("write the base form of the verb", "give the infinitive without to")
    yield from_pairs("verb_base", asks, "a verb in the past tense", pairs)
    pairs = [(verb[0], f"I will {verb[0]} tomorrow.") for verb in VERBS]
    asks = ('write a sentence "I will ... tomorrow." with the verb',)
    yield from_pairs("verb_will", asks, "a verb", pairs)


def _members() -> Iterator[Draft]:
    pairs = [(word, name) for name, words in CATEGORY.items() for word in words]
    asks = ("name the category that the word belongs to", "say what kind of thing the word names")
    yield from_pairs("category", asks, "a word", pairs)
    pairs = [(word, f"{word} is a kind of {name}") for word, name in pairs]
    asks = ('finish the phrase "... is a kind of ..." for the word',)
    yield from_pairs("kind_of", asks, "a word", pairs)
