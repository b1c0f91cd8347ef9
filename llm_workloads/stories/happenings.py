"""What can happen in a story: how each happening is told, and what can be asked about it at the end.

Slots: `a`, `b` people, `t`, `u` things, `p`, `q` places, `x` an animal, `c` a chore, `d` a day or hour.
A question is (question, lead of the answer, answer); the answer is determined by the happening.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Happening:
    """How something that happens is told, and the questions that only someone who heard it can answer."""

    tellings: tuple[str, ...]
    questions: tuple[tuple[str, str, str], ...] = ()


HAPPENINGS = {
    "owns": Happening(
        (
            "{A} had {t.a}[ and [loved|liked|treasured] it[ very much| dearly|]|, a [gift|present] from {a.her} "
            "[mother|father|uncle|aunt|grandmother]|].",
            "[Of all {a.her} [things|toys]|More than anything], {a} [loved|liked] {a.her} {t}[ best|].",
            "{T.a} belonged to {a}[, and {a.she} [took|carried] it everywhere|, and {a.she} was proud of it|].",
            "In {a.her} [bag|hands|arms] {a} [carried|held|had] {t.a}[, as [always|usual]|].",
            '"This is my {t}," [said|cried|sang] {a}[ [proudly|happily]|].[ "[I love it|Look at it]."|]',
        ),
        (
            ("Whose was the {t}", "it was", "a.own"),
            ("[Who owned|Who was the owner of] the {t}", "it was", "a"),
            ("What belonged to {a}", "it was", "t.the"),
        ),
    ),
    "left": Happening(
        (
            "{A} [left|put|laid|set] the {t} {p}[ and [ran|walked|went] [home|off|away]| and forgot [it|about it]|].",
            "[While {a.she} [played|rested|sang]|For a [moment|while]|Before lunch|After a while], {a} "
            "[left|put|laid] {a.her} {t} {p}.",
            '"[I will leave|Let me put] the {t} {p}," [said|thought] {a}[, and so {a.she} did|].',
            "The {t} was [heavy|in the way], so {a} [left|put|laid] it {p}.",
            "[Without thinking|With care|In a hurry|Carefully], {a} [left|put|set] {a.her} {t} {p}.",
        ),
        (
            ("Where had {a} left the {t}", "{a.she} had left it", "p"),
            ("Where did {a} [put|leave] the {t}", "{a.she} left it", "p"),
        ),
    ),
    "missed": Happening(
        (
            "[Later|Soon|In the evening|After supper|The next day], {a} [saw|noticed] that {a.her} {t} was "
            "[gone|missing].",
            '"[Oh no|Oh dear|Help]! Where is my {t}?" [cried|asked|said] {a}[, close to tears| [sadly|loudly]|].',
            "[That night|Back home|At bedtime], {a} [missed|wanted|looked for] {a.her} {t}[ and [began to cry|was "
            "[sad|worried|upset]]|].",
        ),
    ),
    "searched": Happening(
        (
            "{A} looked {q}, but [found nothing|it was not there|there was only [dust|mud|an old shoe]].",
            "[First|At first], {a.she} [searched|looked] {q}[ and found [nothing|only leaves]|, but in vain|].",
            "Was it {q}? No[, it was not|, only a {x} [sat|slept] there].",
        ),
    ),
    "found": Happening(
        (
            "Then {a} remembered[ everything|]. {A.she} [ran|hurried|went] back, and [there it was|there was the {t}], "
            "{p}.",
            "[At last|In the end|Finally], {a} found the {t} {p}[, just where it had been left|, safe and "
            "[dry|sound]|].",
            '"[I know|I remember]! It is {p}," [cried|said] {a}[, and it was|, and {a.she} was right].',
            "{A} [thought|thought hard|closed {a.her} eyes and thought]. Yes, the {t} was still {p}.",
        ),
        (
            ("Who found the {t}", "it was", "a"),
            ("Where did {a} find the {t}", "{a.she} found it", "p"),
            ("[Where was|Where in the end was] the {t}", "it was", "p"),
        ),
    ),
    "took": Happening(
        (
            "[Soon|Then|Just then|A little later], a [hungry|naughty|cheeky|clever] {x} [came|came by] and "
            "[took|carried|dragged] the {t} away. It [dropped|left|hid] it {q}.",
            "But a {x} [saw|found] the {t} and [took|carried|dragged] it off, and [hid|dropped|left] it {q}.",
            "[Nobody|No one] saw the {x} that [stole|took] the {t} and [hid|left|dropped] it {q}.",
        ),
        (
            ("Who [took|stole] the {t}", "it was the", "x"),
            ("Where did the {x} [hide|leave|drop] the {t}", "it left it", "q"),
        ),
    ),
    "lent": Happening(
        (
            "{A} lent the {t} to {b}[ for [a day|a week|the day]|].",
            '"May I [borrow|use] your {t}?" asked {b}. "[Yes|Of course|Gladly]," said {a}[, and gave it to {b.him}|].',
            "{B} [wanted|needed] {t.a}[ [badly|very much]|], so {a} lent {b.him} {a.hers}.",
        ),
        (
            ("Who lent the {t} to {b}", "it was", "a"),
            ("Who [borrowed the {t}|borrowed the {t} from {a}]", "it was", "b"),
        ),
    ),
    "will_return": Happening(
        (
            '"[I will bring it back|You will have it back] {d}," [promised|said] {b}.',
            "{B} promised to [bring it back|give it back|return it] {d}.",
            "It had to be [back|returned] {d}, and {b} [promised|gave {b.her} word].",
        ),
        (("When had {b} promised to bring back the {t}", "{b.she} had promised to bring it", "d"),),
    ),
    "returned": Happening(
        (
            "{B} kept {b.her} [promise|word]. {D}, {b.she} [gave|brought] the {t} back to {a}.",
            "{B} remembered [the promise|what {b.she} had promised], and {d} the {t} was back with {a}.",
            '{D}, {b} [came|knocked at the door|was there]. "[Here is|This is] your {t}, {a}," {b.she} said.',
            "{B} did not forget whose it was. {B.she} [brought|took] the {t} to {a} {d}.",
        ),
        (("Who got the {t} back", "it was", "a"),),
    ),
    "gave": Happening(
        (
            "{A} gave {b} {t.a}[ as a [gift|present]|, [wrapped in paper|tied with string]|].",
            "[For [{b.her}|{b}'s] birthday|To cheer {b.him} up|Out of kindness], {a} gave {b} {t.a}.",
            '"[This is for you|Take this], {b}," said {a}[ [kindly|shyly]|]. It was {t.a}.',
            "{B} got {t.a} from {a}[, who [smiled|laughed|was kind]|].",
        ),
        (
            ("Who gave the {t} to {b}", "it was", "a"),
            ("What did {a} give to {b}", "{a.she} gave {b.him}", "t.the"),
            ("Who got the {t} from {a}", "it was", "b"),
        ),
    ),
    "keeps": Happening(
        (
            "{A} [kept|hid|stored] the {t} {p}[, where it was safe|, and told no one|].",
            "[From then on|After that], the {t} [stood|lay|stayed] {p}.",
            '"[It will be safe|I shall keep it] {p}," [said|thought] {a}.',
        ),
        (
            ("Where did {a} keep the {t}", "{a.she} kept it", "p"),
            ("Where was the {t}", "it was", "p"),
        ),
    ),
    "fetched": Happening(
        (
            "{A} [went|ran|walked] to fetch the {t}. It was still {p}.",
            "{A} took {b} along and showed {b.him} the {t}, {p}.",
            '"Where is it?" asked {b}. "It is {p}," said {a}[ with a smile|], [and they went there together|and it was '
            "true].",
        ),
    ),
    "thanked": Happening(
        (
            "{A} thanked {b} for the {t}[ [again|once more|with all {a.her} heart]|].",
            '"Thank you for the {t}, {b}," said {a}[ [softly|warmly]|].',
            "{A} [drew a picture|baked a cake|sang a song] for {b}, because of the {t}.",
        ),
    ),
    "promised": Happening(
        (
            '"I [will|shall] {c} {d}," [promised|said] {a} to {b}.',
            "{A} promised {b} to {c} {d}.",
            '"Will you {c} {d}?" asked {b}. "[I promise|Yes, I will|I give you my word]," said {a}.',
            "{B} [was tired|was ill|had no time], so {a} [promised|offered] to {c} {d}.",
        ),
        (
            ("What had {a} promised", "{a.she} had promised to", "c"),
            ("Who had promised to {c}", "it was", "a"),
            ("When did {a} want to {c}", "{a.she} wanted to do it", "d"),
        ),
    ),
    "kept_promise": Happening(
        (
            "{A} [kept {a.her} [word|promise]|did not forget]. {D}, {a.she} {c.past}.",
            "{D}, {a} {c.past}, [just as|as] {a.she} had [promised|said].",
            '"[I must go|It is time]," said {a}, "I promised to {c}." And {d} {a.she} {c.past}.',
            "And so, {d}, {a} [went and|quietly|gladly] {c.past}.",
        ),
    ),
    "praised": Happening(
        (
            "{B} was [glad|happy|very happy|grateful] and gave {a} {t.a}.",
            '"[Well done|How kind of you|Thank you], {a}," said {b}, and gave {a.him} {t.a}.',
            "As a thank you, {a} got {t.a} from {b}.",
        ),
        (
            ("What did {b} give to {a}", "{b.she} gave {a.him}", "t.the"),
            ("Who gave the {t} to {a}", "it was", "b"),
        ),
    ),
    "trouble": Happening(
        (
            "{A} [fell|had fallen] into the [mud|stream] and was [cold and wet|wet and sad].",
            "{A} had [hurt {a.her} [foot|hand|knee]|lost the way|lost {a.her} shoes] and [cried|sat down|could not go "
            "on].",
            "[Poor|Little] {a} was [afraid of the [dark|storm]|hungry and had no bread|alone and [sad|very sad]].",
        ),
    ),
    "helped": Happening(
        (
            "Only {b} [stopped|came|was kind]. {B.she} [helped {a.him} up|carried {a.him} home|sat down with {a.him}|"
            "gave {a.him} [bread|soup|warm milk]].",
            '"[Let me help you|Do not cry|Come with me]," said {b}, and [took {a.him} home|held {a.him} by the hand|'
            "gave {a.him} [bread|soup|warm milk]].",
            "Then {b} [came|came along|heard {a.him}] and [helped|was kind to|took care of] {a.him}.",
        ),
        (
            ("Who was kind to {a}", "it was", "b"),
            ("Who helped {a}", "it was", "b"),
            ("Whom did {b} help", "{b.she} helped", "a"),
        ),
    ),
    "repaid": Happening(
        (
            "{A} never forgot it. {A.she} gave {a.her} {t} to {b}, who had been so kind.",
            '[The next day|Later|On Sunday], {a} [went|walked] to {b} with {a.her} {t}. "[It is yours now|This is for '
            'you]," {a.she} said.',
            '"You [were kind|helped me], {b}," said {a}, "so my {t} is yours."',
        ),
        (
            ("Who has the {t} now", "it is", "b"),
            ("What did {a} give to {b}", "{a.she} gave {b.him}", "t.the"),
        ),
    ),
    "swapped": Happening(
        (
            '"[Let us swap|Shall we swap|Will you swap]," said {a}, "my {t} for your {u}?" '
            "{B} [agreed|nodded|said yes].",
            "{A} [swapped|traded] the {t} for {b}'s {u}[, and both were [glad|happy]|].",
            "{A} gave {b} the {t}, and {b} gave {a} the {u}[ for it|].",
        ),
        (
            ("Who had the {t} after the swap", "it was", "b"),
            ("Who had the {u} after the swap", "it was", "a"),
            ("What did {a} get for the {t}", "{a.she} got", "u.the"),
        ),
    ),
    "content": Happening(
        (
            "[From that day|Now] {b} [played with|carried|looked after] the {t}, and {a} had the {u}.",
            "{A} took {a.her} {u} home, and {b} took {b.her} {t}.",
            "[In the evening|That night], the {t} lay beside {b}'s bed and the {u} beside {a}'s.",
        ),
    ),
    "errand": Happening(
        (
            '"[Take|Bring|Carry] this {t} to {b}," said {x}[ to {a}|].',
            "{X} [asked|told] {a} to [take|bring|carry] {t.a} to {b}.",
            "{A} had to [take|bring|carry] {t.a} to {b}[. {X} had asked {a.him}| for {x}].",
        ),
        (
            ("Who was the {t} for", "it was for", "b"),
            ("What did {a} [carry|bring] to {b}", "it was", "t.the"),
            ("Who sent {a} to {b}", "it was", "x"),
        ),
    ),
    "delivered": Happening(
        (
            "{A} [knocked|called|rang]. {B} [opened the door|came out] and [took|was given] the {t}.",
            "{A} remembered who the {t} was for. {A.she} [brought|gave] it to {b}.",
            '"[Here is|This is] {t.a} for you," said {a}, and {b} [smiled|laughed|thanked {a.him}].',
            "[At last|In the end|Before dark], the {t} was with {b}.",
        ),
    ),
    "aside": Happening(
        (
            "{A} had {t.a}, too, and [kept|left|put] it {p}.",
            "[Meanwhile|At the same time|That day], {a} [left|hid|put|forgot] {t.a} {p}.",
            "{A}, [a friend|a neighbour|who lived nearby], [kept|hid] {t.a} {p}.",
            "[Someone|People] said that {a}'s {t} was {p}.",
        ),
        (
            ("Where was {a}'s {t}", "it was", "p"),
            ("Who had the {t}", "it was", "a"),
            ("What was {p}", "it was", "t.the"),
        ),
    ),
}
