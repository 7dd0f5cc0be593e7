"""Which sentences of a file belong to which class of a data set, and which classes get none?

Descriptions come with the class names of their authors: "aquarium fish" for "aquarium_fish", "arcade (passageway)" for
"arcade", in another order, with empty lists. A name that fits no class, or two, must not pass unseen: a class without
descriptions scores badly for a reason that no table shows. The formats are those of `text_files`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .manifest import _gzip, _texts_lines
from .text_files import TextFile, read_texts
from .vcd import vcd_sentence

SHOWN = 10  # names of each kind in the printed report; its attributes hold all


@dataclass(frozen=True, kw_only=True)
class Match:
    """The key of a file that a class was matched with, and by which rule: a key of RULES, or "index" (VL-LTR)."""

    key: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class TextsReport:
    """What `import_texts` found; printing it says which classes have no text, and why."""

    source: str
    format: str
    names: tuple[str, ...]  # (C,) of the data set
    texts: dict[str, list[str]]  # class name -> sentences, only classes that have some, in the order of the data set
    matched: dict[str, Match]  # of each class that a key belongs to, also where its list is empty
    unmatched_classes: tuple[str, ...]  # nothing in the file fits
    ambiguous: dict[str, str]  # class name -> why more than one class or key fits, so that none was taken
    empty: tuple[str, ...]  # classes whose list holds no sentence
    unused_keys: tuple[str, ...]  # of the file
    dropped: dict[str, int]  # entries of the whole file: "empty", "duplicate" (within a class), "cut" (shortened)
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the classes without a sentence, in the order of the data set, each once."""
        return tuple(name for name in dict.fromkeys(self.names) if name not in self.texts)

    def require_complete(self) -> TextsReport:
        """The report itself; ValueError naming the classes without a sentence, where there are any."""
        if self.missing:
            raise ValueError(
                f"{self.source} has no sentence for {len(self.names) - len(self.texts)} of {len(self.names)} classes: "
                f"{_some(self.missing)}. Add them to the file under the names of the data set, or rename its keys; "
                "classes of the same name need different ones first. print(report) says what each of them lacks."
            )
        return self

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the texts as <path>.jsonl.gz or .jsonl, the format of our manifests; equal texts give equal bytes.

        Raises:
            ValueError: another suffix.
            FileExistsError: the file is there with other content, and overwrite is False.
        """
        path = Path(path)
        if not path.name.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError(f"{path}: texts are saved as .texts.jsonl.gz, or as .jsonl without compression.")
        lines = _texts_lines(self.texts)
        data = _gzip(lines) if path.suffix == ".gz" else lines.encode()
        if path.exists() and path.read_bytes() != data and not overwrite:
            raise FileExistsError(f"{path} is there with other content; pass overwrite=True or choose another name.")
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)
        return path

    def __str__(self) -> str:
        counts = [
            len(sentences) for sentences in self.texts.values()
        ]  # each of one class: names that occur twice have none
        rules = Counter(match.rule for match in self.matched.values())
        loose = [
            f"{name!r} = {match.key!r} ({match.rule})"
            for name, match in self.matched.items()
            if match.rule not in ("exact", "index")
        ]
        parts = (
            ("unmatched classes", [repr(name) for name in self.unmatched_classes], ", "),
            ("ambiguous classes", [f"{name!r}: {reason}" for name, reason in self.ambiguous.items()], "; "),
            ("classes with an empty list", [repr(name) for name in self.empty], ", "),
            ("matched by a looser rule", loose, ", "),
            ("unused keys of the file", [repr(key) for key in self.unused_keys], ", "),
        )
        span = f", {sum(counts)} sentences, {min(counts)} to {max(counts)} each" if counts else ""
        lines = [
            f"{self.source} ({self.format}): texts for {len(counts)} of {len(self.names)} classes{span}",
            "matched: " + (", ".join(f"{number} {rule}" for rule, number in rules.items()) or "none"),
            *(f"{what} ({len(items)}): {_shown(items, between)}" for what, items, between in parts if items),
        ]
        if any(self.dropped.values()):
            said = {"empty": "empty", "duplicate": "twice in a class", "cut": "shortened"}
            lines.append("entries: " + ", ".join(f"{n} {said[kind]}" for kind, n in self.dropped.items() if n))
        return "\n".join([*lines, *self.notes])


def import_texts(
    path: str | Path,
    names: Sequence[str],
    *,
    format: str | None = None,
    sentences: Literal["as_is", "vcd"] = "as_is",
) -> TextsReport:
    """Sentences or descriptors about classes from a public format, matched with the class names of a data set.

    The rules of RULES are tried from the first to the last, each only where one class and one key fit each other and
    nothing else does; among all classes and keys, not only those left over. Order never counts, but for VL-LTR's files,
    which have an index and no name.

    Args:
        path: a file (JSON of VCD, WaffleCLIP or CuPL; our .jsonl or .jsonl.gz), or the folder of VL-LTR's texts.
        names: (C,) class names, `manifest.classes.names`.
        format: "json", "jsonl" or "vl-ltr"; None finds it out.
        sentences: "vcd" makes a sentence "tench, which has small eyes" of the phrase "small eyes", see `vcd`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format than stated, not UTF-8, too large, or a file that fits no class at all.
    """
    if isinstance(names, str) or sentences not in ("as_is", "vcd"):
        given = f"names={names!r:.40}" if isinstance(names, str) else f"sentences={sentences!r}"
        raise ValueError(f"{given}: names is a list of class names, and sentences one of as_is, vcd.")
    names = tuple(names)
    file = read_texts(Path(path).expanduser(), format)
    pairs, ambiguous = _by_index(file, names) if file.by_index else _by_name(file, names)
    found = {names[c]: (file.entries[k], rule) for c, (k, rule) in sorted(pairs.items())}
    if not found and not ambiguous:
        keys = [key for key, _ in file.entries]
        raise ValueError(
            f"{path} fits no class: its keys are {_some(keys)}, the classes {_some(names)}. Give the class names that "
            "the file uses, or another file."
        )
    texts = {
        name: [vcd_sentence(name, text) for text in lines] if sentences == "vcd" else list(lines)
        for name, ((_, lines), _) in found.items()
        if lines
    }
    used = {k for k, _ in pairs.values()}
    return TextsReport(
        source=str(path),
        format=file.format,
        names=names,
        texts=texts,
        matched={name: Match(key=key, rule=rule) for name, ((key, _), rule) in found.items()},
        unmatched_classes=tuple(n for n in dict.fromkeys(names) if n not in found and n not in ambiguous),
        ambiguous=ambiguous,
        empty=tuple(name for name, ((_, lines), _) in found.items() if not lines),
        unused_keys=tuple(key for k, (key, _) in enumerate(file.entries) if k not in used),
        dropped=file.dropped,
        notes=(*file.notes, *(_mentions(texts) if file.by_index else ())),
    )


def _spaced(name: str) -> str:
    return " ".join(re.sub(r"[_\-/\s]+", " ", unicodedata.normalize("NFKC", name)).casefold().split())


def _bare(name: str) -> str:
    """Without accents and punctuation too."""
    text = unicodedata.normalize("NFKD", _spaced(name))
    if not text.isascii():
        text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^\w ]|_", " ", re.sub("['\N{RIGHT SINGLE QUOTATION MARK}]", "", text)).split())


def _joined(name: str) -> str:
    return _bare(name).replace(" ", "")


def _unqualified(name: str) -> str:
    return re.sub(r"\([^()]*\)", " ", name)


def _synonyms(name: str) -> list[str]:
    return _unqualified(name).split(",")


def _singular(word: str) -> str:
    if re.search(r"[^aeiou]ies$", word) and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(ss|x|ch|sh|z)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^sui]s$", word) and len(word) > 3 else word


RULES: dict[str, Callable[[str], Iterable[str]]] = {  # rule -> what of two names must be equal, one of these at least
    "exact": lambda name: (name,),
    "case and separators": lambda name: (_spaced(name),),
    "accents and punctuation": lambda name: (_bare(name),),
    "joined words": lambda name: (_joined(name),),
    "without (...)": lambda name: (_joined(_unqualified(name)),),
    "first of its names": lambda name: (_joined(_synonyms(name)[0]),),
    "one of its names": lambda name: map(_joined, _synonyms(name)),
    "singular": lambda name: (_singular(_joined(part)) for part in _synonyms(name)),
}


def _by_name(file: TextFile, names: Sequence[str]) -> tuple[dict[int, tuple[int, str]], dict[str, str]]:
    """Class index -> (entry, rule), and why a class name got none although something fits."""
    keys = [key for key, _ in file.entries]
    pairs: dict[int, tuple[int, str]] = {}
    ambiguous: dict[str, str] = {}
    for rule, forms in RULES.items():
        key_of, class_of = _places(keys, forms), _places(names, forms)
        for c, name in enumerate(names):
            if c in pairs or name in ambiguous:
                continue
            fitting = {k for form in forms(name) for k in key_of.get(form, ())}
            others = {o for k in fitting for form in forms(keys[k]) for o in class_of.get(form, ())} - {c}
            if len(fitting) == 1 and not others and not _differ(name, keys[min(fitting)]):
                pairs[c] = min(fitting), rule
            elif fitting:
                ambiguous[name] = _why(name, c, [keys[k] for k in sorted(fitting)], {o: names[o] for o in others}, rule)
    return pairs, {name: ambiguous[name] for name in dict.fromkeys(names) if name in ambiguous}


def _places(names: Sequence[str], forms: Callable[[str], Iterable[str]]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        for form in filter(None, forms(name)):
            places[form].append(place)
    return places


def _differ(name: str, key: str) -> bool:
    """Whether both have something in brackets, and not the same: "crane (bird)", "crane (machine)"."""
    mine, theirs = (sorted(map(_joined, re.findall(r"\(([^()]*)\)", text))) for text in (name, key))
    return bool(mine and theirs) and mine != theirs and _joined(name) != _joined(key)


def _why(name: str, place: int, keys: list[str], others: dict[int, str], rule: str) -> str:
    if same := [o for o, other in others.items() if other == name]:
        return _same_name([place, *same])
    fits = f"{_some(keys)} {'fits' if len(keys) == 1 else 'fit'} ({rule})"
    if others:
        return f"{fits}, and so it does class {_some(list(others.values()))}"
    return fits if len(keys) > 1 else f"{fits}, but not what stands in brackets"


def _same_name(places: Iterable[int]) -> str:
    return f"the data set has several classes of this name ({', '.join(map(str, sorted(places)))})"


def _by_index(file: TextFile, names: Sequence[str]) -> tuple[dict[int, tuple[int, str]], dict[str, str]]:
    pairs = {int(key): (k, "index") for k, (key, _) in enumerate(file.entries) if int(key) < len(names)}
    places: dict[str, list[int]] = defaultdict(list)
    for c, name in enumerate(names):
        places[name].append(c)
    twice = {name: _same_name(found) for name, found in places.items() if len(found) > 1}
    return {c: pair for c, pair in pairs.items() if names[c] not in twice}, twice


def _mentions(texts: dict[str, list[str]]) -> list[str]:
    """A check of the order of files that have no names."""
    found = sum(_joined(_synonyms(name)[0]) in _joined(" ".join(lines)) for name, lines in texts.items())
    return [
        f"{found} of {len(texts)} texts mention their class; if that is few, the files are not in the order of labels"
    ]


def _shown(items: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return between.join(items[:SHOWN]) + more


def _some(names: Sequence[str]) -> str:
    return _shown([repr(name) for name in names])
