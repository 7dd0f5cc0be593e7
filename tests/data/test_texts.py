"""Sentences about classes: which class gets which, what is said of the others, and what no file may do."""

import gzip
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.data import import_texts, text_files
from workbench.data.vcd import vcd_sentence

Write = Callable[..., Path]
PACKAGED = Path(__file__).parents[2] / "data_manifests"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write({"tench": [...]}) -> the path of a JSON file; text and bytes as they are."""

    def make(content: Any, name: str = "file.json") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def rules(report: Any) -> dict[str, tuple[str, str]]:
    return {name: (match.key, match.rule) for name, match in report.matched.items()}


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "rule"),
    [
        ("tench", "tench", "exact"),
        ("aquarium_fish", "Aquarium fish", "case and separators"),
        ("apartment_building-outdoor", "apartment_building/outdoor", "case and separators"),
        ("file", "\ufb01le", "case and separators"),  # a ligature: NFKC
        ("crêpe", "crepe", "accents and punctuation"),
        ("jack-o'-lantern", "jack o\N{RIGHT SINGLE QUOTATION MARK} lantern", "accents and punctuation"),
        ("crane bird", "crane (bird)", "accents and punctuation"),
        ("lawn_mower", "lawnmower", "joined words"),
        ("arcade", "arcade (passageway)", "without (...)"),
        ("tench, Tinca tinca", "tench", "first of its names"),
        ("Tinca tinca", "tench, Tinca tinca", "one of its names"),
        ("donut", "Donuts", "singular"),
        ("cherry", "cherries", "singular"),
        ("dishes", "dish", "singular"),
    ],
)
def test_a_name_is_found_by_the_strictest_rule_that_fits(write: Write, name: str, key: str, rule: str) -> None:
    path = write({"something else": ["no"], key: ["yes"]})
    report = import_texts(path, ["other", name])
    assert report.texts == {name: ["yes"]} and rules(report) == {name: (key, rule)}
    assert report.unmatched_classes == ("other",) and report.unused_keys == ("something else",)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("colour", "color"),
        ("glass", "gas"),
        ("bus", "bu"),
        ("crane (bird)", "crane (machine)"),
        ("???", "!!!"),
        ("a", ""),
    ],
)
def test_names_that_only_look_alike_are_not_matched(write: Write, name: str, key: str) -> None:
    report = import_texts(write({"same": ["x"], key: ["no"]}), ["same", name])
    assert report.texts == {"same": ["x"]} and key in report.unused_keys and report.missing == (name,)


def test_two_keys_or_two_classes_that_fit_alike_match_nothing_and_are_reported(write: Write) -> None:
    path = write({"crane (bird)": ["flies"], "crane (machine)": ["lifts"], "Owl": ["hoots"], "ox": ["pulls"]})
    report = import_texts(path, ["crane", "owl", "OWL", "ox"])
    assert report.texts == {"ox": ["pulls"]} and list(report.ambiguous) == ["crane", "owl", "OWL"]
    assert "'crane (bird)', 'crane (machine)' fit (without (...))" in report.ambiguous["crane"]
    assert "'OWL'" in report.ambiguous["owl"] and report.unmatched_classes == ()
    assert report.unused_keys == ("crane (bird)", "crane (machine)", "Owl")


def test_a_key_that_is_one_class_s_own_never_serves_a_second_class(write: Write) -> None:
    names = ["crane", "crane (machine)", "Missile", "missile"]
    report = import_texts(write({"crane": ["a"], "missile": ["b"]}), names)
    assert report.texts == {"crane": ["a"], "missile": ["b"]}
    assert "'crane'" in report.ambiguous["crane (machine)"] and "'missile'" in report.ambiguous["Missile"]


def test_first_names_keep_apart_what_a_second_name_would_confuse(write: Write) -> None:
    names = ["missile", "projectile, missile", "sea lion"]
    report = import_texts(write({"projectile": ["a"], "missile": ["b"]}), names)
    assert report.texts == {"missile": ["b"], "projectile, missile": ["a"]}


def test_a_name_that_the_data_set_or_the_file_has_twice_shares_nothing(write: Write) -> None:
    text = '{"kite": ["a bird"], "tench": ["a fish"], "drum": ["round"], "drum": ["a fish too"]}'
    report = import_texts(write(text), ["kite", "tench", "kite", "drum"])
    assert report.texts == {"tench": ["a fish"]}
    assert "several classes of this name (0, 2)" in report.ambiguous["kite"] and "drum" in report.ambiguous
    with pytest.raises(ValueError, match=r"no sentence for 3 of 4 classes: 'kite', 'drum'.*need different ones"):
        report.require_complete()


def test_the_order_of_the_file_means_nothing(write: Write) -> None:
    names = [f"class {i}" for i in range(50)]
    entries = {name: [f"about {name}"] for name in reversed(names)}
    report = import_texts(write(entries), names)
    assert (
        report.require_complete().texts == {name: [f"about {name}"] for name in names} and list(report.texts) == names
    )


# -- sentences ---------------------------------------------------------------------------------------------------------


def test_what_is_left_out_of_the_sentences_is_counted_and_empty_lists_are_named(write: Write) -> None:
    long = "word " * 400
    path = write({"a": ["\nOne\u202e  two.\x1b[2J", "One two. [2J", "", " .. ", long], "b": [], "c": ["", " "]})
    report = import_texts(path, ["a", "b", "c"])
    assert report.texts == {"a": ["One two. [2J", long[:999].strip()]}
    assert report.dropped == {"empty": 4, "duplicate": 1, "cut": 1} and report.empty == ("b", "c")
    assert rules(report)["b"] == ("b", "exact") and report.missing == ("b", "c")
    assert "classes with an empty list (2): 'b', 'c'" in str(report)
    assert "entries: 4 empty, 1 twice in a class, 1 shortened" in str(report)
    with pytest.raises(FrozenInstanceError):
        report.texts = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("phrase", "sentence"),
    [
        ("small eyes", "corn field, which has small eyes"),
        ("a large mouth", "corn field, which is a large mouth"),
        ("an edge", "corn field, which is an edge"),
        ("the stalk", "corn field, which is the stalk"),
        ("antennae", "corn field, which has antennae"),
        ("has two legs", "corn field, which has two legs"),
        ("is green", "corn field, which is green"),
        ("island-like patches", "corn field, which has island-like patches"),
        ("may be yellow", "corn field, which may be yellow"),
        ("often has a fence", "corn field, which often has a fence"),
        ("often yellow", "corn field, which is often yellow"),
        ("used for food", "corn field, which is used for food"),
        ("olive green in color", "corn field, which is olive green in color"),
    ],
)
def test_a_phrase_becomes_the_sentence_of_vcd_on_request_only(write: Write, phrase: str, sentence: str) -> None:
    path = write({"corn_field": [phrase]})
    assert import_texts(path, ["corn_field"]).texts["corn_field"] == [phrase]
    assert import_texts(path, ["corn_field"], sentences="vcd").texts["corn_field"] == [sentence]
    assert vcd_sentence("corn_field", phrase) == sentence


def test_the_printed_report_is_short_and_safe_and_its_attributes_are_whole(write: Write) -> None:
    names = ["ok", *(f"lost {i}" for i in range(25)), "\x1b[31mred"]
    report = import_texts(write({"ok": ["x", "y"]}), names)
    text = str(report)
    assert "texts for 1 of 27 classes, 2 sentences" in text and "'lost 9', and 16 more" in text
    assert "\x1b" not in text and len(report.unmatched_classes) == 26


# -- formats -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_read_again_and_an_other_file_is_not_replaced(write: Write, tmp_path: Path) -> None:
    report = import_texts(write({"b_2": ["zwei", "\u00e9"], "a": ["eins"]}), ["a", "b 2"])
    path = report.save(tmp_path / "own.texts.jsonl.gz")
    again = import_texts(path, ["a", "b 2"])
    assert again.format == "jsonl" and again.texts == report.texts and rules(again)["b 2"] == ("b 2", "exact")
    first = path.read_bytes()
    assert again.save(path).read_bytes() == first
    other = import_texts(write({"a": ["drei"]}), ["a"])
    with pytest.raises(FileExistsError, match="overwrite=True"):
        other.save(path)
    assert path.read_bytes() == first
    assert import_texts(other.save(path, overwrite=True), ["a"]).texts == {"a": ["drei"]}
    plain = other.save(tmp_path / "own.jsonl")
    assert json.loads(plain.read_text()) == {"class": "a", "texts": ["drei"]}
    with pytest.raises(ValueError, match=r"\.jsonl"):
        other.save(tmp_path / "own.txt")


def test_the_texts_of_a_packaged_manifest_are_a_file_of_texts() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    report = wb.import_texts(PACKAGED / "toybox_lt.texts.jsonl.gz", manifest.classes.names)
    assert report.require_complete().texts == manifest.texts


def test_the_folder_of_vl_ltr_is_read_by_label_and_cut_into_sentences(write: Write, tmp_path: Path) -> None:
    article = (
        "The tench (T. tinca, L. 1758) is a fish of approx. 70 cm. It lives in lakes, e.g. Lake Tuz.\n\n== Look ==\n"
        "It has red eyes! Is it green?\n== References ==\nSmith 1999.\n== Use ==\nPeople eat it."
    )
    write(article, "corpus/wiki/desc_0.txt")
    write("An eel — swims.".encode("gbk"), "corpus/wiki/desc_10.txt")
    write("", "corpus/wiki/desc_2.txt")
    write("Not one of them.", "corpus/wiki/desc_x.txt")
    write("Too many.", "corpus/wiki/desc_11.txt")
    names = ["tench", *(f"c{i}" for i in range(1, 10)), "eel"]
    report = import_texts(tmp_path / "corpus", names)
    assert report.texts == {
        "tench": [
            "The tench (T. tinca, L. 1758) is a fish of approx. 70 cm.",
            "It lives in lakes, e.g. Lake Tuz.",
            "It has red eyes!",
            "Is it green?",
            "People eat it.",
        ],
        "eel": ["An eel — swims."],
    }
    assert report.format == "vl-ltr" and rules(report)["eel"] == ("10", "index")
    assert report.empty == ("c2",) and report.unused_keys == ("11",) and len(report.unmatched_classes) == 8
    assert "2 of 2 texts mention their class" in str(report) and "read as GBK, first desc_10.txt" in str(report)
    assert import_texts(tmp_path / "corpus" / "wiki", names, format="vl-ltr").texts == report.texts
    swapped = import_texts(tmp_path / "corpus", [*reversed(names)])
    assert "0 of 2 texts mention their class" in str(swapped)


def test_links_out_of_the_folder_of_vl_ltr_and_two_files_of_one_class_are_refused(write: Write, tmp_path: Path) -> None:
    secret = write("The secret.", "secret.txt")
    write("Text.", "corpus/wiki/desc_1.txt")
    (tmp_path / "corpus" / "wiki" / "desc_0.txt").symlink_to(secret)
    with pytest.raises(ValueError, match="outside"):
        import_texts(tmp_path / "corpus", ["a", "b"])
    (tmp_path / "corpus" / "wiki" / "desc_0.txt").unlink()
    write("Text.", "corpus/wiki/desc_01.txt")
    with pytest.raises(ValueError, match="of one class"):
        import_texts(tmp_path / "corpus", ["a", "b"])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "wiki").symlink_to(tmp_path / "corpus" / "wiki")
    with pytest.raises(ValueError, match="outside"):
        import_texts(tmp_path / "folder", ["a", "b"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds a list"),
        ("7", "holds a int"),
        ("[" * 100_000, "is no JSON"),
        ('{"a": "text"}', "key 'a' has a text; expected a list"),
        ('{"a": {"b": ["c"]}}', "key 'a' has a object"),
        ('{"a": {}}', "key 'a' has a object"),
        ('{"a": ["b"], "c": ["d", 3]}', "key 'c': entry 1 is a int"),
        ('{"class": "a", "texts": ["b"]}\n{"class": "c"}', "line 2, class 'c' has a null"),
        ('{"class": "a", "texts": ["b"]}\nx', "line 2 is no JSON"),
        (b'{"a": ["\xff"]}', "is not UTF-8"),
        (gzip.compress(b'{"a": ["b"]}', mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(b" " * 3000 + b'{"a": ["b"]}', mtime=0), "MiB"),
        ("{}", "fits no class"),
        ('{"n01440764": ["b"]}', "its keys are 'n01440764', the classes 'a'"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_the_place(
    write: Write, content: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said == "MiB":
        monkeypatch.setattr(text_files, "MAX_BYTES", 2000)
    with pytest.raises(ValueError, match=said):
        import_texts(write(content), ["a"])


def test_files_that_are_not_there_and_formats_that_are_not_theirs_are_named(write: Write, tmp_path: Path) -> None:
    path = write({"a": ["b"]})
    with pytest.raises(FileNotFoundError, match="no file of texts"):
        import_texts(tmp_path / "nothing.json", ["a"])
    for options, said in (
        ({"format": "cupl"}, "choose one of json, jsonl, vl-ltr"),
        ({"format": "jsonl"}, "line 1: expected"),
        ({"format": "vl-ltr"}, "VL-LTR's texts are a folder"),
        ({"sentences": "cupl"}, "one of as_is, vcd"),
    ):
        with pytest.raises(ValueError, match=said):
            import_texts(path, ["a"], **options)
    with pytest.raises(ValueError, match="a list of class names"):
        import_texts(path, "a")
    with pytest.raises(ValueError, match="is a folder"):
        import_texts(tmp_path, ["a"], format="json")
    with pytest.raises(ValueError, match="neither wiki/desc_"):
        import_texts(tmp_path, ["a"])


# -- the public files --------------------------------------------------------------------------------------------------


def names_of(shared: Path, name: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in (shared / "data" / "names" / name).read_text().splitlines()]


TWICE = ["missile", "sunglasses"]  # the name list of CLIP calls two classes of ImageNet each by these


def test_waffleclip_s_imagenet_fits_clip_s_names_but_for_two_and_the_two_that_are_there_twice(shared: Path) -> None:
    path = shared / "data" / "descriptors" / "waffleclip" / "descriptors_imagenet.json"
    report = import_texts(path, names_of(shared, "imagenet.txt"))
    assert len(report.texts) == 994 and {rule for _, rule in rules(report).values()} == {"exact"}
    assert report.unmatched_classes == ("newt", "tights") and list(report.ambiguous) == TWICE and report.empty == ()
    assert report.unused_keys == ("eft", "maillot", "missile", "projectile", "sunglass", "sunglasses")
    assert "(657, 744)" in report.ambiguous["missile"] and "(836, 837)" in report.ambiguous["sunglasses"]
    assert sum(map(len, report.texts.values())) == 5770 and report.texts["tench"][0] == "a freshwater fish"


def test_cupl_s_imagenet_has_a_key_for_every_name_so_that_only_the_two_of_two_classes_lack_one(shared: Path) -> None:
    path = shared / "data" / "descriptors" / "cupl" / "imagenet_prompts_base.json"
    report = import_texts(path, names_of(shared, "imagenet.txt"))
    assert len(report.texts) == 996 and report.missing == tuple(TWICE) == report.unused_keys
    assert report.dropped == {"empty": 2, "duplicate": 1740, "cut": 0}  # one of the empty is a dot after 768 spaces


def test_waffleclip_s_places_has_two_names_with_brackets_and_one_empty_list(shared: Path) -> None:
    path = shared / "data" / "descriptors" / "waffleclip" / "descriptors_places365.json"
    report = import_texts(path, names_of(shared, "places_lt.txt"))
    loose = {name: key for name, (key, rule) in rules(report).items() if rule != "exact"}
    assert loose == {"arcade": "arcade (passageway)", "lock_chamber": "lock_chamber (canal)"}
    assert len(report.texts) == 364 and report.missing == report.empty == ("corn_field",)
    assert (report.unmatched_classes, report.ambiguous, report.unused_keys) == ((), {}, ())


@pytest.mark.parametrize(("name", "sentences"), [("base", 2802), ("full", 3757)])
def test_cupl_s_cifar_fits_all_classes_nine_of_them_with_spaces(shared: Path, name: str, sentences: int) -> None:
    path = shared / "data" / "descriptors" / "cupl" / f"cifar100_prompts_{name}.json"
    report = import_texts(path, (PACKAGED / "cifar100_lt_ir100.classes.txt").read_text().splitlines())
    loose = {name: key for name, (key, rule) in rules(report).items() if rule != "exact"}
    assert len(report.require_complete().texts) == 100 and sum(map(len, report.texts.values())) == sentences
    assert len(loose) == 9 and all(key == name.replace("_", " ") for name, key in loose.items())


# -- the command -------------------------------------------------------------------------------------------------------


def test_fit_takes_descriptions_and_a_corpus_from_files_and_says_what_they_lack(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.cli import main

    def stop(*_: Any, **options: Any) -> None:
        given.update(options)
        raise ValueError("far enough")

    given: dict[str, Any] = {}
    monkeypatch.setattr(wb, "create_method", stop)
    words = ["fit", "--method", "lift", "--backbone", "toybox_vit", "--weights", "random", "--data", "toybox_lt"]
    first, second = wb.Manifest.load("toybox_lt").classes.names[:2]
    texts, corpus = write({first: ["x"]}, "t.json"), write({first.replace(" ", "_"): ["y"], second: []}, "c.json")
    out = ["--out", str(tmp_path / "run")]
    assert main([*words, *out, "--texts", str(texts), "--corpus", str(corpus)]) == 1
    assert (given["texts"], given["corpus"]) == ({first: ["x"]}, {first: ["y"]})
    said = capsys.readouterr().err
    assert "t.json (json): texts for 1 of 60 classes" in said and f"empty list (1): {second!r}" in said
    assert main([*words, *out]) == 1
    assert given["texts"] == wb.Manifest.load("toybox_lt").texts and given["corpus"] is None
    with pytest.raises(SystemExit):
        main(["fit", "--resume", "run", "--texts", str(texts), "--corpus", str(corpus)])
    assert "--texts, --corpus cannot be changed" in capsys.readouterr().err
