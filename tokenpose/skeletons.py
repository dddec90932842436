"""Skeletons: what the keypoints of a body (or of anything) are called and how they hang together."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Pairs = tuple[tuple[int, int], ...]

MOST_KEYPOINTS = 4_096  # far beyond any skeleton; a mistyped or hostile count is refused before it fills the memory

_LOWER_BODY = {"pelvis", "hip", "knee", "ankle", "heel", "foot", "toe"}
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_IN_FULL = {"l": "left", "r": "right"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LEADING_SIDE = re.compile(r"^(left|right)(?=[a-z])")  # "lefteye"; what ends so may be another word: "bright"
_NO_SIDES = ("leg", "legs", "lip", "lips", "lower", "lumbar", "rear", "rib", "ribs", "root", "rump")  # among "lhip"s

Words = tuple[str, ...]


def _split_side(word: str) -> list[str]:
    return _LEADING_SIDE.sub(r"\1 ", word.lower()).split()


def _words(name: str) -> Words:
    """A name's words in lower case: of "L_BigToe1", "lBigToe1" and "l big-toe.1" they are l, big, toe and 1."""
    return tuple(part for word in _WORD.findall(name) for part in _split_side(word))


def sideless_words(name: str) -> tuple[str, ...]:
    """The words of a keypoint's name in lower case, without its side: "left_hip", "hipL" and "Hip" are ("hip",)."""
    return tuple(word for word in _words(name) if word not in _OTHER_SIDE)


def plain_words(name: str) -> Words:
    """What a keypoint's name says, however it is spelled: "left_eye", "L eye" and "EyeLeft" are ("left", "eye")."""
    words: Sequence[str] = _words(name) if name.isascii() else re.findall(r"[^\W_]+", name.casefold())
    full = [_IN_FULL.get(word, word) for word in words]
    sides = [word for word in full if word in _IN_FULL.values()]
    return tuple(sorted(full, key=lambda word: word not in sides) if len(sides) == 1 else full)  # side first


def _as_tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value


def infer_flip_pairs(keypoints: Iterable[str]) -> Pairs | None:
    """Pair left with right keypoints by their names ("left_hip" / "right_hip", "l_hip", "LHip", "hip L", "lefthip").

    Letters that are glued to a word ("lhip" / "rhip") count where at least three pairs of names have them.
    Returns None where it can't be told: `why_no_flip_pairs` gives the reason.
    """
    found = _find_flip_pairs(tuple(keypoints))
    return None if isinstance(found, str) else found


def why_no_flip_pairs(keypoints: Iterable[str]) -> str:
    """Why these names can't be paired: "'left_wing' has no partner 'right_wing'", for example; "" where they can."""
    found = _find_flip_pairs(tuple(keypoints))
    return found if isinstance(found, str) else ""


def read_flip_pairs(text: str, keypoints: Iterable[str]) -> Pairs:
    """Pairs written as "left_a:right_a,left_b:right_b"; "none": no keypoint changes sides.

    Raises ValueError for what isn't written so, for names that the keypoints don't have and for names in two pairs.
    """
    names = tuple(keypoints)
    if text.strip() == "none":
        return ()
    pairs = []
    for written in text.split(","):
        pair = [name.strip() for name in written.split(":")]
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"flip pairs are written left_eye:right_eye,left_ear:right_ear, or none; got {written!r}")
        pairs.append(_pair_of_names(pair, names))
    _refuse_second_pairs(pairs, names)
    return tuple(pairs)


def _pair_of_names(pair: Sequence[str], names: tuple[str, ...]) -> tuple[int, int]:
    unknown = [name for name in pair if name not in names]
    if unknown:
        raise ValueError(f"flip pairs: there is no keypoint {unknown[0]!r}; there are {', '.join(names)}")
    return names.index(pair[0]), names.index(pair[1])


def _refuse_second_pairs(pairs: Iterable[tuple[int, int]], names: tuple[str, ...]) -> None:
    counts = Counter(index for pair in pairs for index in pair)
    twice = [names[index] for index, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"flip pairs: {twice[0]!r} stands in them twice")


def _find_flip_pairs(names: tuple[str, ...]) -> Pairs | str:
    """The pairs, left first, or why they can't be told."""
    words = [_words(name) for name in names]
    if () in words:
        return f"the side of {names[words.index(())]!r} can't be told"
    mirrored = [_mirror_words(name) for name in words]
    for mirror, fewest in ((_mirror_trailing_side, 1), (_mirror_first_letter, 3), (_mirror_last_letter, 3)):
        glued = {name: mirror(name) for name, other in zip(words, mirrored, strict=True) if name == other}
        lefts = [name for name, other in glued.items() if name < other and other in glued]
        if lefts and len(lefts) < fewest:
            left, right = names[words.index(lefts[0])], names[words.index(glued[lefts[0]])]
            return f"{left!r} and {right!r} may be left and right, or other words"
        if lefts:
            mirrored = [glued.get(name, other) for name, other in zip(words, mirrored, strict=True)]
    return _pair(names, words, mirrored)


def _pair(names: tuple[str, ...], words: list[Words], mirrored: list[Words]) -> Pairs | str:
    position: dict[Words, int] = {}
    for index, name in enumerate(words):
        if name in position:
            return f"{names[position[name]]!r} and {names[index]!r} read the same"
        position[name] = index
    for index, other in enumerate(mirrored):
        if other not in position:
            return f"{names[index]!r} has no partner {_rename(names[index], other)!r}"
    pairs = [(index, position[other]) for index, other in enumerate(mirrored) if words[index] < other]  # l before r
    return tuple(sorted(pairs)) or "no name has a side, left or right"


def _mirror_words(words: Words) -> Words:
    """left_eye -> right_eye, L_Eye -> R_Eye; both sides of left_eye_right_corner."""
    return tuple(_OTHER_SIDE.get(word, word) for word in words)


def _mirror_trailing_side(words: Words) -> Words:
    """eyeleft -> eyeright."""
    return tuple(re.sub("(left|right)$", lambda side: _OTHER_SIDE[side[0]], word) for word in words)


def _mirror_first_letter(words: Words) -> Words:
    """lhip -> rhip; leg, lip, ... stay."""
    first = words[0]
    changed = _OTHER_SIDE.get(first[0], first[0]) + first[1:]
    return words if first in _NO_SIDES else (changed, *words[1:])


def _mirror_last_letter(words: Words) -> Words:
    """hipl -> hipr; numbers may follow."""
    place = max((index for index, word in enumerate(words) if word.isalpha()), default=0)
    word = words[place]
    changed = word[:-1] + _OTHER_SIDE.get(word[-1], word[-1])
    return (*words[:place], changed, *words[place + 1 :])


def _rename(name: str, words: Words) -> str:
    """The name with other words, written as it is."""
    parts = iter(words)

    def replace(found: re.Match[str]) -> str:
        old = found[0]
        new = "".join(next(parts) for _ in _split_side(old))
        if old.lower() == new:
            return old
        return new.upper() if old.isupper() else new.capitalize() if old[0].isupper() else new

    return _WORD.sub(replace, name)


def _limbs_from_1(limbs: Any, count: int, label: str) -> Pairs:
    """A COCO category's limbs, which count from 1."""
    for limb in limbs if isinstance(limbs, list | tuple) else [limbs]:
        is_pair = isinstance(limb, list | tuple) and len(limb) == 2 and limb[0] != limb[1]
        if not is_pair or not all(isinstance(end, int) and 1 <= end <= count for end in limb):
            raise ValueError(
                f"{label}: skeleton holds {limb!r:.60}; a limb is two different keypoints, counted from 1 to {count}"
            )
    return tuple((first - 1, second - 1) for first, second in limbs)


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """The keypoints' names, and what is known of them; indices count from 0.

    ``flip_pairs`` left as None are inferred from the names and stay None where the names don't tell: mirrored
    passes and augmentation then refuse to guess; ``()`` says that nothing changes sides. ``sigmas`` are COCO's
    per-keypoint fall-offs for OKS; None where nobody has estimated them.

    Raises ValueError for empty or repeated names, indices out of range and wrong lengths.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: Pairs = ()
    flip_pairs: Pairs | None = None
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "keypoints", tuple(self.keypoints))
        if len(self.keypoints) > MOST_KEYPOINTS:
            raise ValueError(f"a skeleton has at most {MOST_KEYPOINTS} keypoints; got {len(self.keypoints)}")
        if not all(isinstance(name, str) for name in (self.name, *self.keypoints)):
            raise TypeError(f"a skeleton's name and keypoint names must be text; got {self.name!r}, {self.keypoints!r}")
        set_field(self, "limbs", tuple((int(a), int(b)) for a, b in self.limbs))
        if self.flip_pairs is None:
            set_field(self, "flip_pairs", infer_flip_pairs(self.keypoints))
        else:
            set_field(self, "flip_pairs", tuple((int(a), int(b)) for a, b in self.flip_pairs))
        if self.sigmas is not None:
            set_field(self, "sigmas", tuple(float(sigma) for sigma in self.sigmas))
        self._check()

    def _check(self) -> None:
        count = len(self.keypoints)
        if count == 0:
            raise ValueError(f"skeleton {self.name!r} needs at least one keypoint; got none")
        repeated = sorted(name for name, times in Counter(self.keypoints).items() if times > 1)
        if repeated:
            raise ValueError(f"skeleton {self.name!r}: keypoint names must differ; repeated: {', '.join(repeated)}")
        for field, pairs in (("limbs", self.limbs), ("flip_pairs", self.flip_pairs or ())):
            for pair in pairs:
                if not all(0 <= index < count for index in pair) or pair[0] == pair[1]:
                    raise ValueError(
                        f"skeleton {self.name!r}: {field} holds {pair}; both must be different and in 0..{count - 1}"
                    )
        flipped = [index for pair in self.flip_pairs or () for index in pair]
        if len(flipped) != len(set(flipped)):
            raise ValueError(f"skeleton {self.name!r}: a keypoint stands in two flip pairs: {self.flip_pairs}")
        if self.sigmas is not None and (
            len(self.sigmas) != count or not all(0 < sigma < float("inf") for sigma in self.sigmas)
        ):
            raise ValueError(f"skeleton {self.name!r}: {count} positive sigmas needed; got {self.sigmas}")

    @classmethod
    def from_names(cls, names: Iterable[str], name: str = "custom") -> "Skeleton":
        """A skeleton of these keypoints, without limbs."""
        return cls(name=name, keypoints=tuple(names))

    @classmethod
    def from_count(cls, count: int) -> "Skeleton":
        """A skeleton of ``count`` keypoints named keypoint_0, keypoint_1, ..."""
        if not 1 <= count <= MOST_KEYPOINTS:
            raise ValueError(f"a skeleton has 1 to {MOST_KEYPOINTS} keypoints; got {count}")
        return cls(name="custom", keypoints=tuple(f"keypoint_{index}" for index in range(count)))

    @classmethod
    def from_coco_category(cls, category: Mapping[str, Any]) -> "Skeleton":
        """The skeleton of a category of a COCO keypoint file, whose limbs count from 1.

        Known name lists (COCO's and ours) get their known sigmas. Raises ValueError where the category has no names.
        """
        label = f"category {category.get('name', category.get('id'))!r}"
        if not category.get("keypoints"):
            raise ValueError(f"{label} lists no keypoint names")
        if not isinstance(category["keypoints"], list | tuple) or not all(
            isinstance(keypoint, str) for keypoint in category["keypoints"]
        ):
            raise ValueError(f"{label}: keypoints must be a list of names; got {category['keypoints']!r:.60}")
        names, limbs = tuple(category["keypoints"]), category.get("skeleton") or ()
        limbs = _limbs_from_1(limbs, len(names), label)
        known = next((skeleton for skeleton in (COCO, MPII, LSP) if skeleton.keypoints == names), None)
        return cls(
            name=known.name if known else str(category.get("name", "custom")),
            keypoints=names,
            limbs=limbs or (known.limbs if known else ()),
            flip_pairs=known.flip_pairs if known else None,
            sigmas=known.sigmas if known else None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Skeleton":
        """The inverse of `to_dict`, also after a way through JSON."""
        if not isinstance(values, Mapping):
            raise TypeError(f"a skeleton is a mapping of its fields; got {values!r:.80}")
        return cls(**{name: _as_tuples(value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Where the keypoint stands. Raises LookupError that lists the names where there is none such."""
        if keypoint not in self.keypoints:
            raise LookupError(
                f"skeleton {self.name!r} has no keypoint {keypoint!r}; it has {', '.join(self.keypoints)}"
            )
        return self.keypoints.index(keypoint)

    def upper_body(self) -> tuple[bool, ...]:
        """Of each keypoint, whether it belongs to the upper half of a body: hips and what is below them don't.

        Raises ValueError where the names tell of no lower or of no upper half.
        """
        upper = tuple(_LOWER_BODY.isdisjoint(_words(name)) for name in self.keypoints)
        if all(upper) or not any(upper):
            raise ValueError(
                f"half bodies need keypoints of both halves; the names of skeleton {self.name!r} tell of none "
                f"{'below the waist' if all(upper) else 'above it'}: turn them off (half_body 0)"
            )
        return upper

    def side(self, index: int) -> str | None:
        """ "left", "right" or None: the side that the keypoint's name tells."""
        words = _words(self.keypoints[index])
        if "left" in words or "l" in words:
            return "left"
        return "right" if "right" in words or "r" in words else None


COCO = Skeleton(
    name="coco",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
)  # fmt: skip

MPII = Skeleton(
    name="mpii",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7), (13, 7),
        (13, 14), (14, 15),
    ),
)  # fmt: skip

LSP = Skeleton(
    name="lsp",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (2, 8), (3, 9), (8, 9), (6, 7), (7, 8), (9, 10), (10, 11), (8, 12),
        (9, 12), (12, 13),
    ),
)  # fmt: skip
