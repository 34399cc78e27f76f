"""The class labels of a network's head: one's own list, or the list file that a data set comes with."""

import csv
import json
import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sum3dcam.errors import CheckpointError

MAX_BYTES = 256 * 2**20  # the largest of these files, a Kinetics JSON, has some 100 MB; parsing takes nine times that

HMDB51_FILE = re.compile(r"([^.].*)_test_split([123])\.txt")
KINETICS_HEADER = "label,youtube_id,time_start,time_end,split"
KINETICS_ROW = re.compile(r".+,[\w-]{11},[0-9.]+,[0-9.]+,[a-z]+(,[0-9])?")
JSON_START = re.compile(r"[\[{]\s*($|[\[\]{}\"'])")  # what follows the bracket tells it from a label: [something] falls
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in the order of the head's outputs; the format is told by the content, never by the file's name.

    - one label per line, in the file's order;
    - UCF101's classInd.txt and Charades' Charades_v1_classes.txt, in the order of their numbers;
    - Kinetics' CSV or JSON: every label once, sorted;
    - the JSON of the 3D-ResNets release (of any data set): its `labels`, in their order, which need not be sorted;
    - HMDB51's folder of <class>_test_split<1|2|3>.txt: the classes, sorted;
    - ImageNet's LOC_synset_mapping.txt, synset_words.txt or map_clsloc.txt, sorted by WordNet id, and
      imagenet_class_index.json, by index: the first synonym; the whole text where classes share that; with the WordNet
      id behind it where they share even the text: `maillot, tank suit`, `crane (n02012849)`.

    Text is UTF-8 with or without a byte order mark and with any line ends; blank lines at the end never count. Labels
    stay as they are written, underscores and all. A file of lines has the format that more than half of them have.

    Raises:
        CheckpointError: nothing readable there, more than `MAX_BYTES`, a damaged list, an empty or repeated label.
    """
    try:
        labels = _hmdb51_labels(path) if path.is_dir() else _labels_of_lines(_read_lines(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError("the label file cannot be read, or not as UTF-8 text", got=f"{path}: {error}") from error
    return _all_different([label.strip() for label in labels])


def _all_different(labels: Sequence[str]) -> tuple[str, ...]:
    if not labels:
        raise CheckpointError("the label file is empty; it must hold one different label per line")
    if unprintable := [label for label in labels if not label or CONTROL.search(label)]:
        raise _refusal("a label is empty or holds control characters; is this a text file?", unprintable)
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise _refusal("the label file must hold different labels; rename or remove the repeated", repeated)
    return tuple(labels)


def _refusal(message: str, got: object, wanted: str | None = None) -> CheckpointError:
    return CheckpointError(message, got=reprlib.repr(got), allowed=wanted)  # reprlib: short, whatever the file holds


def _read_lines(path: Path) -> list[str]:
    """Stripped lines, none blank at the end: line n of the file is item n - 1."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)  # a device or a pipe tells no size
    if len(content) > MAX_BYTES:
        raise CheckpointError("the label file is too large", got=str(path), allowed=f"at most {MAX_BYTES} bytes")
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").rstrip()
    return [line.strip() for line in text.split("\n")] if text else []


def _labels_of_lines(lines: Sequence[str]) -> list[str]:
    first = next(filter(None, lines), "")
    if JSON_START.match(first):
        return _json_labels("\n".join(lines))
    if "youtube_id" in re.split('[",]', first) or _most_match(KINETICS_ROW, lines):
        return _kinetics_csv_labels(lines)
    for example, (pattern, order) in LINE_FORMATS.items():
        if _most_match(pattern, lines):
            return order(_text_by_key(lines, pattern=pattern, example=example))
    if "" in lines:
        raise CheckpointError(f"line {lines.index('') + 1} is empty; the file must hold one different label per line")
    return list(lines)


def _most_match(pattern: re.Pattern[str], lines: Sequence[str]) -> bool:
    return 2 * sum(pattern.fullmatch(line) is not None for line in lines) > sum(map(bool, lines))


def _text_by_key(lines: Sequence[str], *, pattern: re.Pattern[str], example: str) -> dict[str, str]:
    """What stands behind each number or WordNet id; `pattern` has these two groups. Blank lines do not count."""
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        match = pattern.fullmatch(line)
        if match is None:
            raise _refusal(f"line {number} of the label file is unlike most others; mend it", line, f"`{example}`")
        if match[1] in texts:
            raise _refusal(f"line {number} of the label file repeats the key of an earlier one; remove one", line)
        texts[match[1]] = match[2]
    return texts


def _by_number(texts: Mapping[str, str], *, first: int) -> list[str]:
    return [texts[key] for key in _consecutive(texts, first=first)]


def _consecutive(keys: Collection[str], *, first: int) -> list[str]:
    wanted = [str(number) for number in range(first, first + len(keys))]
    if missing := [key for key in wanted if key not in keys]:
        message = f"the label file gives no class the number {missing[0]}; complete it or write one label per line"
        raise _refusal(message, sorted(set(keys) - set(wanted)), f"{first}, {first + 1}, ... without a gap")
    return wanted


def _by_wordnet_id(texts: Mapping[str, str]) -> list[str]:
    return _synset_labels(sorted(texts.items()))


def _synset_labels(synsets: Sequence[tuple[str, str]]) -> list[str]:
    """The shortest name of each (WordNet id, comma-separated synonyms) that no other has.

    >>> _synset_labels([("n1", "crane"), ("n2", "crane"), ("n3", "maillot"), ("n4", "maillot, tank suit")])
    ['crane (n1)', 'crane (n2)', 'maillot', 'maillot, tank suit']
    """
    names = [text.split(",")[0] for _, text in synsets]
    name_count, text_count = Counter(names), Counter(text for _, text in synsets)
    return [
        name if name_count[name] == 1 else text if text_count[text] == 1 else f"{text} ({wordnet_id})"
        for name, (wordnet_id, text) in zip(names, synsets, strict=True)
    ]


def _kinetics_csv_labels(lines: Sequence[str]) -> list[str]:
    rows = csv.reader(lines, strict=True)
    labels: set[str] = set()
    try:
        header = next(filter(None, rows))
        if "label" not in header:
            message = (
                f"line {rows.line_num} of this Kinetics CSV is no header with a `label`; give the training split's"
            )
            raise _refusal(message, header, KINETICS_HEADER)
        column = header.index("label")
        for row in filter(None, rows):
            if len(row) != len(header) or not row[column].strip():
                message = f"line {rows.line_num} of this Kinetics CSV lacks its label or has other columns; mend it"
                raise _refusal(message, row, ",".join(header))
            labels.add(row[column].strip())
    except csv.Error as error:
        raise _refusal(f"line {rows.line_num} of this Kinetics CSV is damaged; mend it", str(error)) from error
    return sorted(labels)


def _json_labels(text: str) -> list[str]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError("the label file is damaged or too deep JSON; mend it", got=str(error)) from error
    if isinstance(tree, dict) and tree:
        if not tree.keys().isdisjoint({"labels", "database"}):
            return _released_labels(tree)
        if read := JSON_FORMATS.get(type(next(iter(tree.values())))):
            return read(tree)
    raise _refusal("this JSON is no list of labels known here; write one label per line", tree)


def _released_labels(tree: Mapping[str, Any]) -> list[str]:
    labels = tree.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _refusal("this annotation JSON has no list of texts as `labels`", labels, '{"labels": ["catch", ...]}')
    return labels


def _class_index_labels(tree: Mapping[str, Any]) -> list[str]:
    synsets: list[tuple[str, str]] = []
    for key in _consecutive(tree, first=0):
        match tree[key]:
            case [str(wordnet_id), str(name)]:
                synsets.append((wordnet_id, name))
            case other:
                raise _refusal(f"class {key} of this class index is no pair; mend it", other, '["n01440764", "tench"]')
    return _synset_labels(synsets)


def _kinetics_json_labels(tree: Mapping[str, Any]) -> list[str]:
    labels: set[str] = set()
    for video_id, facts in tree.items():
        match facts:
            case {"annotations": {"label": str(label)}}:
                labels.add(label.strip())
            case _:
                message = f"video {reprlib.repr(video_id)} of this Kinetics JSON has no label; use the training split"
                raise _refusal(message, facts, '{"annotations": {"label": "abseiling", ...}, ...}')
    return sorted(labels)


def _hmdb51_labels(folder: Path) -> list[str]:
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for file in folder.iterdir():
        if match := HMDB51_FILE.fullmatch(file.name):
            splits[match[1]].add(match[2])
    if not splits:
        message = "no <class>_test_split1.txt in this folder; name HMDB51's folder of splits, or a label file"
        raise CheckpointError(message, got=str(folder))
    for name, found in sorted(splits.items()):
        if lost := sorted(set("123") - found):
            message = f"HMDB51's folder of splits lacks {name}_test_split{lost[0]}.txt; unpack it anew"
            raise CheckpointError(message, got=str(folder), allowed="three splits of every class")
    return sorted(splits)


# What a line looks like: its pattern (groups: key, text) and the order of the keys. The devkit's lines would pass for
# synonyms too, so they come first. Zeros are counted: unbounded, a line of a million would take hours to refuse.
LINE_FORMATS: Mapping[str, tuple[re.Pattern[str], Callable[[Mapping[str, str]], list[str]]]] = {
    "1 ApplyEyeMakeup": (re.compile(r"0{0,5}([0-9]{1,6})\s+(\S.*)"), partial(_by_number, first=1)),
    "c000 Holding some clothes": (re.compile(r"c0{0,2}([0-9]{1,3})\s+(\S.*)"), partial(_by_number, first=0)),
    "n02119789 1 kit_fox": (re.compile(r"(n[0-9]{8})\s+[0-9]+\s+(\S+)"), _by_wordnet_id),
    "n01440764 tench, Tinca tinca": (re.compile(r"(n[0-9]{8})\s+(\S.*)"), _by_wordnet_id),
}

# What the values of the outermost object are tells the two that lack keys of their own.
JSON_FORMATS: Mapping[type, Callable[[Mapping[str, Any]], list[str]]] = {
    list: _class_index_labels,
    dict: _kinetics_json_labels,
}
