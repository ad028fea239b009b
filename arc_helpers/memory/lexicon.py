"""The words of the persona dialogues: who, what about them, and how it is said. Held-out parts are never trained on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """One kind of fact. {n} stands for a name, {v} for the value; the last entry of says and asks is held out.

    me: statement, question and answer in the first person.
    """

    says: tuple[str, ...]
    asks: tuple[str, ...]
    answer: str
    me: tuple[str, str, str]
    values: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _slot(says: str, asks: str, answer: str, me: str, values: str) -> Slot:
    split = [tuple(part.strip() for part in text.split("|")) for text in (says, asks)]
    statement, question, reply = (part.strip() for part in me.split("|"))
    return Slot(split[0], split[1], answer, (statement, question, reply), _words(values))


SLOTS = {
    "city": _slot(
        "my friend {n} lives in {v} . | {n} moved to {v} last year . | {n} has a small flat in {v} .",
        "where does {n} live ? | which city is {n} in ? | what is the home town of {n} ?",
        "{n} lives in {v} .",
        "i live in {v} . | where do i live ? | you live in {v} .",
        "rome paris london madrid berlin vienna prague dublin athens cairo tokyo boston "
        "chicago denver sydney delhi lima quito milan turin geneva bergen krakow porto",
    ),
    "job": _slot(
        "{n} works as a {v} . | {n} found a job as a {v} . | {n} earns money as a {v} .",
        "what is the job of {n} ? | what does {n} do for work ? | how does {n} earn money ?",
        "{n} works as a {v} .",
        "i work as a {v} . | what is my job ? | you work as a {v} .",
        "baker teacher doctor nurse pilot farmer lawyer painter plumber singer writer waiter "
        "judge dentist barber tailor butcher sailor miner broker chemist carpenter gardener printer",
    ),
    "pet": _slot(
        "{n} has a {v} at home . | {n} bought a {v} last week . | {n} takes care of a {v} .",
        "which animal does {n} have ? | what pet does {n} have ? | which animal lives with {n} ?",
        "{n} has a {v} .",
        "i have a {v} at home . | which animal do i have ? | you have a {v} .",
        "cat dog rabbit hamster parrot turtle lizard snake goat horse donkey pony "
        "ferret gecko canary finch goose duck lamb hedgehog mouse frog toad pigeon",
    ),
    "food": _slot(
        "{n} loves to eat {v} . | {n} cooks {v} every week . | the plate of {n} is full of {v} .",
        "what does {n} love to eat ? | which food does {n} like ? | what should i cook for {n} ?",
        "{n} loves to eat {v} .",
        "i love to eat {v} . | what do i love to eat ? | you love to eat {v} .",
        "pizza pasta sushi soup salad bread cheese rice beans curry tacos pancakes "
        "waffles noodles dumplings lentils potatoes mushrooms olives pickles walnuts honey yogurt omelet",
    ),
    "drink": _slot(
        "{n} likes to drink {v} . | {n} always orders {v} . | the glass of {n} is full of {v} .",
        "what does {n} like to drink ? | which drink does {n} order ? | what should i pour for {n} ?",
        "{n} likes to drink {v} .",
        "i like to drink {v} . | what do i like to drink ? | you like to drink {v} .",
        "tea coffee milk cocoa water juice cider beer wine lemonade soda espresso "
        "cola kefir punch sherry brandy whisky rum gin vodka mead nectar broth",
    ),
    "sport": _slot(
        "{n} plays {v} on sundays . | {n} is good at {v} . | {n} joined a club for {v} .",
        "which sport does {n} play ? | what is {n} good at ? | which club did {n} join ?",
        "{n} plays {v} .",
        "i play {v} on sundays . | which sport do i play ? | you play {v} .",
        "tennis chess golf hockey rugby cricket polo squash soccer baseball handball darts "
        "bowling billiards volleyball badminton lacrosse croquet poker bridge dominoes football netball checkers",
    ),
    "instrument": _slot(
        "{n} learns the {v} . | {n} practices the {v} at night . | {n} gave a concert on the {v} .",
        "which instrument does {n} learn ? | what does {n} practice ? | which instrument was the concert of {n} on ?",
        "{n} learns the {v} .",
        "i learn the {v} . | which instrument do i learn ? | you learn the {v} .",
        "piano violin guitar flute trumpet drums harp cello clarinet organ banjo oboe "
        "tuba trombone saxophone bassoon viola mandolin accordion ukulele xylophone bagpipe lute horn",
    ),
    "color": _slot(
        "the favorite color of {n} is {v} . | {n} painted the door {v} . | everything {n} wears is {v} .",
        "what is the favorite color of {n} ? | in which color did {n} paint the door ? | what color does {n} wear ?",
        "the color of {n} is {v} .",
        "my favorite color is {v} . | what is my favorite color ? | your color is {v} .",
        "red blue green yellow purple pink brown black white gray silver gold "
        "beige ivory scarlet crimson violet indigo turquoise cyan magenta maroon olive amber",
    ),
    "language": _slot(
        "{n} speaks {v} . | {n} grew up with {v} . | the parents of {n} talked in {v} .",
        "which language does {n} speak ? | what did {n} grow up with ? | in which language should i write to {n} ?",
        "{n} speaks {v} .",
        "i speak {v} . | which language do i speak ? | you speak {v} .",
        "english french german italian spanish polish czech russian greek turkish arabic hebrew "
        "hindi bengali chinese korean japanese thai dutch danish swedish finnish welsh irish",
    ),
    "travel": _slot(
        "{n} travels by {v} . | {n} goes to work by {v} . | {n} comes to every party by {v} .",
        "how does {n} travel ? | how does {n} go to work ? | how will {n} come to the party ?",
        "{n} travels by {v} .",
        "i travel by {v} . | how do i travel ? | you travel by {v} .",
        "car bus train bicycle tram boat plane taxi scooter motorbike ferry truck "
        "van jeep canoe kayak sled skateboard helicopter balloon subway metro yacht wagon",
    ),
    "garden": _slot(
        "{n} grows {v} in the garden . | the garden of {n} is full of {v} . | {n} sells {v} at the market .",
        "what does {n} grow ? | what is the garden of {n} full of ? | what does {n} sell at the market ?",
        "{n} grows {v} .",
        "i grow {v} in the garden . | what do i grow ? | you grow {v} .",
        "roses tulips lilies daisies orchids poppies pansies irises violets peonies asters dahlias "
        "tomatoes carrots onions garlic pumpkins melons cherries apples plums pears grapes herbs",
    ),
    "study": _slot(
        "{n} studies {v} . | {n} wrote a book about {v} . | {n} gives lessons in {v} .",
        "what does {n} study ? | what is the book of {n} about ? | in what does {n} give lessons ?",
        "{n} studies {v} .",
        "i study {v} . | what do i study ? | you study {v} .",
        "history physics biology geology music law medicine logic poetry algebra geometry botany "
        "zoology chemistry economics politics ethics grammar drama astronomy philosophy psychology theology statistics",
    ),
}

NAMES = _words(
    "anna ben carla david emma felix grace henry irene jack karen leo maria nina oscar paul "
    "quentin rosa simon tina ursula victor wendy xavier yvonne zoe adam bella clara diego ella frank "
    "gina hugo ivan julia kevin laura martin nora olga peter rita sara tom vera walter alice"
)

ACKS = ("i will remember that .", "good to know .", "thank you for telling me .", "i see .")

SMALL_TALK = (
    ("hello !", "hello , nice to meet you ."),
    ("how are you today ?", "i am fine , thank you ."),
    ("what a day !", "yes , it was a long one ."),
    ("it is raining again .", "then take a coat with you ."),
    ("the sun is shining .", "that is a good day for a walk ."),
    ("i am a little tired .", "you should rest for a while ."),
    ("do you like jokes ?", "yes , but i know only a few ."),
    ("can you help me ?", "of course , what can i do ?"),
    ("the bus was late .", "i hope you did not wait for long ."),
    ("i slept very well .", "i am glad to hear that ."),
    ("what time is it ?", "i do not have a clock ."),
    ("are you a person ?", "no , i am a small program ."),
    ("it is cold outside .", "then stay inside and keep warm ."),
    ("i went to the shop .", "did you find what you need ?"),
    ("my phone is broken .", "maybe someone can repair it ."),
    ("the coffee is cold .", "you can make a new cup ."),
    ("i have to work tomorrow .", "then you should not stay up late ."),
    ("let us talk .", "yes , tell me more ."),
    ("that was funny .", "i am happy that you liked it ."),
    ("i will be back soon .", "take your time , i will wait ."),
)

# Real words that are in none of the lists above, and so are read and written in pieces.
UNSEEN_NAMES = _words("zofia marek ingrid tariq yuki bogdan amara silvio petra kenji leila rasmus")
UNSEEN_VALUES = _words("lisbon warsaw walnut mango basil otter falcon velvet saffron marimba jasmine cobalt")
