"""What surrounds the plot: how a story opens and closes, what happens meanwhile, and who asks the questions."""

OPENINGS = (
    "[One [cold|warm|bright|grey|windy|quiet|rainy|sunny] [morning|afternoon|evening|day]|Last [week|spring|summer|"
    "autumn|winter]|Long ago|Once|On [Monday|Tuesday|Friday|Saturday]], {a} [walked|went|ran|came|hurried]"
    "[ slowly| happily| alone| early|] to {s}.",
    "There was [once |]a [kind|clever|shy|brave|young|cheerful|lazy|careful|curious|lonely] {a.child} "
    "[called|named] {a}[, who [lived|played] near {s}|, and everyone [knew|liked] {a.him}|].",
    "{A} was a [kind|clever|shy|brave|young|cheerful|lazy|careful|curious|lonely] {a.child}[ who [lived|played] near "
    "{s}| with [brown|blue|green|dark|bright] eyes|].",
    "The [sun|moon|wind|rain] [woke|called|surprised] {a}, [a|the] [kind|clever|shy|brave|little|cheerful] {a.child} "
    "from the [village|town|valley|farm|island].",
)

MEANWHILE = (
    "[It|Outside it|Then it] [began to|started to] [rain|snow], [and|so] [everyone|{a}] [ran|hurried] [inside|home].",
    "The [sun|moon] [shone|rose|went down] and the [birds|bees|frogs] [sang|slept|were quiet].",
    "The [wind|storm|fog] [came|grew stronger|came down from the hills], but [soon|by noon|in the end] it "
    "[was gone|passed].",
    "{A} ate [bread|soup|an apple|a pear|some cake|some cheese][ and|, then] [drank [milk|water|tea]|"
    "[rested|slept] [a while|an hour]].",
    "[For lunch|For supper|At noon] there was [hot|warm|good] [soup|bread|pie|porridge|fish] with "
    "[butter|honey|beans|onions|potatoes].",
    "A [brown|black|white|grey|fat|thin|young|old] {y} [sat|slept|ran|hid] {s}[, and {a} [laughed|smiled|waved]|].",
    '"[Good morning|Good day|Hello], {a}," [said|called] {z}. "[What a [fine|cold|lovely|long] day|How are you]!"',
    "{Z} [was busy|was tired|was in a good mood|was singing][ that day| as always|].",
    "{A} [played|sang|danced|talked|read] with [some friends|a friend|the other children] until "
    "[noon|evening|supper|it was late].",
    "[The road|The way|The path] was [long|steep|muddy|dusty], and {a} [was tired|sang a song|counted the "
    "[stones|trees|clouds]].",
    "{A} felt [happy|sad|proud|tired|worried|calm|hopeful|a little cold|a little lonely][, but did not say why|].",
    "[In the distance|Far away|Not far off], [a [dog|bell|horn|child]|someone] [could be heard|was calling|was loud].",
)

CLOSINGS = (
    "[And so|So] [the day|it all|everything] ended well.",
    "[Everyone|They all] [laughed|sang|danced|had supper|went home happy].",
    "{A} [slept well|smiled|was happy|was proud|was glad|went to bed][ that night| at last|].",
    "[That|This] was the [best|longest|finest|happiest] day of the [year|week|summer].",
    "[And then|Then] [it was time for bed|the stars came out|the lamps were lit|the moon rose].",
    "The end.",
)

ASKERS = ("Grandmother", "Grandfather", "the old owl", "Father", "Mother", "the children", "someone", "my sister")

# QUESTION, LEAD and ANSWER stand for those of a happening.
QUESTION_FRAMES = (
    "QUESTION? LEAD ANSWER.",
    '"QUESTION?" asked {asker}. "LEAD ANSWER."',
    'Then {asker} [asked|wanted to know], "QUESTION?" "LEAD ANSWER," [was the answer|they said|I said].',
    "[One more thing|Now tell me|Guess]: QUESTION? LEAD ANSWER.",
    "[Do you remember|Who remembers]: QUESTION? LEAD ANSWER.",
)

DAYS = (
    "before supper",
    "before dark",
    "by noon",
    "at sunset",
    "after school",
    "before the rain",
    "the next morning",
    "on Sunday",
    "on Monday",
    "in the evening",
    "after lunch",
    "within a week",
    "at dawn",
    "before the feast",
)
