"""VCD's sentence about a class: Menon and Vondrick, Visual Classification via Description from Large Language Models.

ICLR 2023, arXiv 2210.07183: "{class}, which (is/has) {d}" for a descriptor d. Written from the formula alone.
"""

from __future__ import annotations

import re

_ADVERB = re.compile(r"(often|usually|typically|sometimes|generally|commonly|mostly|always|also)[, ]+", re.I)
_VERB = re.compile(
    r"(is|are|was|were|has|have|can|cannot|may|might|must|will|should|does|do|looks?|seems?|appears?|lives?|grows?|"
    r"comes?|contains?|includes?|consists?|features?|resembles?|ranges?|varies|vary)\b",
    re.I,
)
_IS = re.compile(
    r"(an?|the|used|made|worn|found|known|seen|designed|covered|filled|surrounded|attached|located)\b", re.I
)
_IN_COLOUR = re.compile(r"\bin (colou?r|shape|size|length|appearance)\.?$", re.I)


def vcd_sentence(name: str, phrase: str) -> str:
    """The sentence for one phrase: ("corn_field", "rows of corn") -> "corn field, which has rows of corn".

    When it is "is" and when "has" is our reading. A phrase that begins with a verb ("has ...", "may be ...", "often
    has ...") follows "which" as it is; one that begins with an article, a participle or an adverb ("a ...", "used ...")
    or ends in "in color" or "in size" follows "which is"; any other "which has". No rule of words tells a kind from a
    part: "four-limbed animal" becomes "which has four-limbed animal". Underscores and slashes of the name become
    spaces.
    """
    rest = _ADVERB.sub("", phrase, count=1) if _ADVERB.match(phrase) else phrase
    if _VERB.match(rest):
        link = ""
    elif rest != phrase or _IS.match(phrase) or _IN_COLOUR.search(phrase):
        link = "is "
    else:
        link = "has "
    return f"{' '.join(re.sub('[_/]', ' ', name).split())}, which {link}{phrase}"
