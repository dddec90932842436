"""Skeletons: the names of the keypoints of a body (or of anything else), their limbs, and left with right."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from tokenpose.files import listed, shown

IndexPairs = tuple[tuple[int, int], ...]
"""Pairs of keypoints by their indices: limbs, and left with right."""

Words = tuple[str, ...]
Side = Literal["left", "right"]

MOST_KEYPOINTS = 4_096  # far beyond any skeleton; refuses a mistyped or hostile count before it fills the memory

_LOWER_BODY = {"pelvis", "hip", "knee", "ankle", "heel", "foot", "toe"}
_ABBREVIATED = {"sho": "shoulder", "elb": "elbow", "wri": "wrist", "kne": "knee", "ank": "ankle"}  # in FLIC's names
_MIRRORED = {"left": "right", "right": "left", "l": "r", "r": "l"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LEADING_SIDE = re.compile(r"^(left|right)(?=[a-z])")  # "lefteye"; a word that ends so may be another one: "bright"
_NOT_SIDES = ("leg", "legs", "lip", "lips", "lower", "lumbar", "rear", "rib", "ribs", "root", "rump")  # but l or r


# What a keypoint's name says


class KeypointName(NamedTuple):
    """What a keypoint's name says, whatever its spelling."""

    side: Side | None
    """The person's own side, or None where the name says none. In "left_eye_right_corner" it is the first."""
    part: Words
    """The other words in lower case: ("hip",) for "left_hip", "hipL", "L-Hip" and "Hip"."""

    @property
    def words(self) -> Words:
        """The name in one spelling, side first: ("left", "eye") for "left_eye", "L eye" and "EyeLeft"."""
        return self.part if self.side is None else (self.side, *self.part)


def read_name(name: str) -> KeypointName:
    """What one keypoint's name says; `read_names` knows more where there are other names."""
    return read_names((name,))[0]


@lru_cache(maxsize=1_000)
def read_names(names: tuple[str, ...]) -> tuple[KeypointName, ...]:
    """What the names of a skeleton's keypoints say. This is the one place where sides and parts are told from names.

    A word is a side if it is left, right, l or r ("Left Hip", "L_Hip", "leftHip", "LHip", "hip.L", "R-Hip"), but a
    letter before a number ("L5") or a word that is a whole name ("left") is one only if a name of the other side is
    among them. Letters that are part of a word ("lhip", "hipr", "hipleft") are sides where flip pairs are told from
    them, see `infer_flip_pairs`.
    """
    words = [_split_words(name) for name in names]
    mirrored, _ = _mirror_names(words)
    known = set(words)
    partners = {other: own for own, other in zip(words, mirrored, strict=True) if own != other}  # "rear" of "lear"
    return tuple(
        _read_mirrored(own, partners.get(own, other))
        if own in partners or (own != other and (other in known or _says_a_side(own)))
        else _without_side(name)
        for name, own, other in zip(names, words, mirrored, strict=True)
    )


def _read_mirrored(words: Words, mirrored: Words) -> KeypointName:
    """What a name says that has a side, told from the first word that the name of the other side has not."""
    place = next(place for place, (word, other) in enumerate(zip(words, mirrored, strict=True)) if word != other)
    side: Side = "left" if words[place] < mirrored[place] else "right"
    word = _strip_side(words[place], mirrored[place])
    rest = (*words[:place], *((word,) if word else ()), *words[place + 1 :])
    return KeypointName(side, _spell_out(rest))


def _without_side(name: str) -> KeypointName:
    words = _split_words(name) if name.isascii() else tuple(re.findall(r"[^\W_]+", name.casefold()))
    return KeypointName(None, _spell_out(words))


def _strip_side(word: str, mirrored: str) -> str:
    """What is left of a word without its side: nothing of "left" and "l", hip of "lhip", "hipl" and "hipleft"."""
    if word in _MIRRORED:
        return ""
    for side in ("left", "right"):
        if word.endswith(side) and mirrored.endswith(_MIRRORED[side]):
            return word.removesuffix(side)
    return word[1:] if word[0] != mirrored[0] else word[:-1]


def _says_a_side(words: Words) -> bool:
    """Whether one of the words is a side even if no name of the other side is known."""
    has_part = any(len(word) > 1 and word.isalpha() and word not in _MIRRORED for word in words)
    return has_part and any(
        word in _MIRRORED and (len(word) > 1 or not following.isdigit())
        for word, following in zip(words, (*words[1:], ""), strict=True)
    )


def _spell_out(words: Words) -> Words:
    spelled = tuple(_ABBREVIATED.get(word, word) for word in words if word not in ("of", "the"))
    return ("head", "top") if spelled == ("top", "head") else spelled  # AIC's "top of head", CrowdPose's top_head


def _split_words(name: str) -> Words:
    """The words in lower case: "L_BigToe1", "lBigToe1" and "l big-toe.1" all give l, big, toe and 1."""
    return tuple(part for word in _WORD.findall(name) for part in _split_side(word))


def _split_side(word: str) -> list[str]:
    return _LEADING_SIDE.sub(r"\1 ", word.lower()).split()


# Flip pairs


def infer_flip_pairs(keypoints: Iterable[str]) -> IndexPairs | None:
    """Pair left with right keypoints by their names ("left_hip" / "right_hip", "l_hip", "LHip", "hip L", "lefthip").

    A letter that is part of a word ("lhip" / "rhip") counts as a side where at least three pairs of names have one.
    Returns None where the names don't say; `explain_unknown_flip_pairs` gives the reason.
    """
    found = _find_flip_pairs(tuple(keypoints))
    return None if isinstance(found, str) else found


def explain_unknown_flip_pairs(keypoints: Iterable[str]) -> str:
    """Why the names can't be paired, for example "'left_wing' has no partner 'right_wing'"; "" where they can."""
    found = _find_flip_pairs(tuple(keypoints))
    return found if isinstance(found, str) else ""


def read_flip_pairs(text: str, keypoints: Iterable[str]) -> IndexPairs:
    """Flip pairs written as "left_a:right_a,left_b:right_b"; "none" means that no keypoint changes sides.

    Raises ValueError for another form, for names that the keypoints don't have and for a name in two pairs.
    """
    names = tuple(keypoints)
    pairs = tuple(_find_both(pair, names) for pair in split_flip_pairs(text))
    repeated = [index for index, count in Counter(index for pair in pairs for index in pair).items() if count > 1]
    if repeated:
        raise ValueError(f"flip pairs: {shown(names[repeated[0]])} is in them twice")
    return pairs


def split_flip_pairs(text: str) -> list[tuple[str, str]]:
    """The names in a text that `read_flip_pairs` reads. Raises ValueError for another form."""
    pairs = []
    for written in () if text.strip() == "none" else text.split(","):
        pair = [name.strip() for name in written.split(":")]
        if len(pair) != 2 or not all(pair):
            raise ValueError(
                f"write flip pairs as left_eye:right_eye,left_ear:right_ear, or none; got {shown(written)}"
            )
        pairs.append((pair[0], pair[1]))
    return pairs


def _find_both(pair: tuple[str, str], names: tuple[str, ...]) -> tuple[int, int]:
    unknown = [name for name in pair if name not in names]
    if unknown:
        raise ValueError(f"flip pairs: there is no keypoint {shown(unknown[0])}; there are {listed(names)}")
    return names.index(pair[0]), names.index(pair[1])


def _find_flip_pairs(names: tuple[str, ...]) -> IndexPairs | str:
    """The pairs, left first, or why the names don't give them."""
    words = [_split_words(name) for name in names]
    if () in words:
        return f"{shown(names[words.index(())])} has no Latin letters or digits, so it can't be read"
    mirrored, doubtful = _mirror_names(words)
    if doubtful:
        left, right = (names[words.index(name)] for name in doubtful)
        return f"{shown(left)} and {shown(right)} may be left and right, or other words"
    return _pair(names, words, mirrored)


def _mirror_names(words: Sequence[Words]) -> tuple[list[Words], tuple[Words, Words] | None]:
    """The names of the other side, and two that may be left and right or other words; then no letters are sides."""
    mirrored = [_mirror_words(name) for name in words]
    for mirror, fewest in ((_mirror_trailing_side, 1), (_mirror_first_letter, 3), (_mirror_last_letter, 3)):
        joined = {name: mirror(name) for name, other in zip(words, mirrored, strict=True) if name and name == other}
        lefts = [name for name, other in joined.items() if name < other and other in joined]
        if lefts and len(lefts) < fewest:
            return mirrored, (lefts[0], joined[lefts[0]])
        if lefts:
            mirrored = [joined.get(name, other) for name, other in zip(words, mirrored, strict=True)]
    return mirrored, None


def _pair(names: tuple[str, ...], words: list[Words], mirrored: list[Words]) -> IndexPairs | str:
    position: dict[Words, int] = {}
    for index, name in enumerate(words):
        if name in position:
            return f"{shown(names[position[name]])} and {shown(names[index])} differ only in spelling"
        position[name] = index
    for index, other in enumerate(mirrored):
        if other not in position:
            return f"{shown(names[index])} has no partner {shown(_replace_words(names[index], other))}"
    pairs = [(index, position[other]) for index, other in enumerate(mirrored) if words[index] < other]  # l before r
    return tuple(sorted(pairs)) or "no name has a side, left or right"


def _mirror_words(words: Words) -> Words:
    """left_eye -> right_eye, L_Eye -> R_Eye; both sides of left_eye_right_corner."""
    return tuple(_MIRRORED.get(word, word) for word in words)


def _mirror_trailing_side(words: Words) -> Words:
    """eyeleft -> eyeright."""
    return tuple(re.sub("(left|right)$", lambda side: _MIRRORED[side[0]], word) for word in words)


def _mirror_first_letter(words: Words) -> Words:
    """lhip -> rhip; leg, lip and the like stay."""
    first = words[0]
    changed = _MIRRORED.get(first[0], first[0]) + first[1:]
    return words if first in _NOT_SIDES else (changed, *words[1:])


def _mirror_last_letter(words: Words) -> Words:
    """hipl -> hipr; numbers may follow."""
    place = max((index for index, word in enumerate(words) if word.isalpha()), default=0)
    word = words[place]
    changed = word[:-1] + _MIRRORED.get(word[-1], word[-1])
    return (*words[:place], changed, *words[place + 1 :])


def _replace_words(name: str, words: Words) -> str:
    """The name with other words, in its own case and with its own separators."""
    parts = iter(words)

    def replace(found: re.Match[str]) -> str:
        old = found[0]
        new = "".join(next(parts) for _ in _split_side(old))
        if old.lower() == new:
            return old
        return new.upper() if old.isupper() else new.capitalize() if old[0].isupper() else new

    return _WORD.sub(replace, name)


# Skeletons


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """The keypoints' names, limbs, flip pairs and sigmas; indices count from 0.

    ``flip_pairs=None`` infers them from the names. They stay None where the names don't say, and then the flip test and
    augmentation refuse to guess; ``()`` says that no keypoint changes sides. ``sigmas`` are COCO's per-keypoint
    constants for OKS; None where nobody has estimated them.

    Raises ValueError for empty or repeated names, indices out of range and wrong lengths.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: IndexPairs = ()
    flip_pairs: IndexPairs | None = None
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "keypoints", tuple(self.keypoints))
        if len(self.keypoints) > MOST_KEYPOINTS:
            raise ValueError(f"a skeleton has at most {MOST_KEYPOINTS} keypoints; got {len(self.keypoints)}")
        if not all(isinstance(name, str) for name in (self.name, *self.keypoints)):
            raise TypeError(
                f"a skeleton's name and keypoint names must be text; got {shown(self.name)}, {shown(self.keypoints)}"
            )
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
            raise ValueError(f"skeleton {shown(self.name)} needs at least one keypoint; got none")
        repeated = sorted(name for name, times in Counter(self.keypoints).items() if times > 1)
        if repeated:
            raise ValueError(f"skeleton {shown(self.name)}: keypoint names must differ; repeated: {listed(repeated)}")
        for field, pairs in (("limbs", self.limbs), ("flip_pairs", self.flip_pairs or ())):
            for pair in pairs:
                if not all(0 <= index < count for index in pair) or pair[0] == pair[1]:
                    raise ValueError(
                        f"skeleton {shown(self.name)}: {field} holds {shown(pair)}; both must be different and in "
                        f"0..{count - 1}"
                    )
        flipped = [index for pair in self.flip_pairs or () for index in pair]
        if len(flipped) != len(set(flipped)):
            raise ValueError(f"skeleton {shown(self.name)}: a keypoint is in two flip pairs: {shown(self.flip_pairs)}")
        if self.sigmas is not None and (
            len(self.sigmas) != count or not all(0 < sigma < float("inf") for sigma in self.sigmas)
        ):
            raise ValueError(f"skeleton {shown(self.name)} needs {count} positive sigmas; got {shown(self.sigmas)}")

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
        """The skeleton of a category of a COCO keypoint file.

        The keypoints of COCO, MPII and LSP get the sigmas and flip pairs that we know. A member ``flip_pairs``, which
        is ours and lists pairs of names, says which keypoints change sides. Raises ValueError where the category has no
        names, and for pairs of other names.
        """
        label = f"category {shown(category.get('name', category.get('id')))}"
        if not category.get("keypoints"):
            raise ValueError(f"{label} lists no keypoint names")
        if not isinstance(category["keypoints"], list | tuple) or not all(
            isinstance(keypoint, str) for keypoint in category["keypoints"]
        ):
            raise ValueError(f"{label}: keypoints must be a list of names; got {shown(category['keypoints'])}")
        names, limbs = tuple(category["keypoints"]), category.get("skeleton") or ()
        limbs = _limbs_from_1(limbs, len(names), label)
        known = next((skeleton for skeleton in (COCO, MPII, LSP) if skeleton.keypoints == names), None)
        stated = _stated_flip_pairs(category, label)
        return cls(
            name=known.name if known else str(category.get("name", "custom")),
            keypoints=names,
            limbs=limbs or (known.limbs if known else ()),
            flip_pairs=known.flip_pairs if known and stated is None else stated,
            sigmas=known.sigmas if known else None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Skeleton":
        """The inverse of `to_dict`, also for what was written as JSON and read again."""
        if not isinstance(values, Mapping):
            raise TypeError(f"a skeleton is a mapping of its fields; got {shown(values)}")
        return cls(**{name: _as_tuples(value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """The keypoint's index. Raises LookupError that lists the names where there is no such keypoint."""
        if keypoint not in self.keypoints:
            raise LookupError(
                f"skeleton {shown(self.name)} has no keypoint {shown(keypoint)}; it has {listed(self.keypoints)}"
            )
        return self.keypoints.index(keypoint)

    def upper_body(self) -> tuple[bool, ...]:
        """Whether each keypoint belongs to the upper half of a body: hips and what is below them don't.

        Raises ValueError where the names have no lower half or no upper half.
        """
        upper = tuple(_LOWER_BODY.isdisjoint(name.part) for name in read_names(self.keypoints))
        if all(upper) or not any(upper):
            raise ValueError(
                f"half bodies need keypoints of both halves; skeleton {shown(self.name)} names none "
                f"{'below' if all(upper) else 'above'} the waist: turn half bodies off (half_body 0)"
            )
        return upper

    def side(self, index: int) -> Side | None:
        """ "left", "right" or None: the side that the keypoint's name says."""
        return read_names(self.keypoints)[index].side

    def find(self, name: str) -> int | None:
        """The index of the keypoint of this name in any spelling: "left_hip" finds "L Hip". None without one.

        The same spelling comes first; of several other ones none is found.
        """
        if name in self.keypoints:
            return self.keypoints.index(name)
        wanted = read_name(name)
        found = [index for index, read in enumerate(read_names(self.keypoints)) if read == wanted]
        return found[0] if len(found) == 1 else None


def _as_tuples(value: Any) -> Any:
    """JSON writes tuples as lists; this turns them back."""
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value


def _limbs_from_1(limbs: Any, count: int, label: str) -> IndexPairs:
    """A COCO category's limbs, with indices from 0 in place of COCO's, which count from 1."""
    for limb in limbs if isinstance(limbs, list | tuple) else [limbs]:
        is_pair = isinstance(limb, list | tuple) and len(limb) == 2 and limb[0] != limb[1]
        if not is_pair or not all(isinstance(end, int) and 1 <= end <= count for end in limb):
            raise ValueError(
                f"{label}: skeleton holds {shown(limb)}; a limb is two different keypoints, counted from 1 to {count}"
            )
    return tuple((first - 1, second - 1) for first, second in limbs)


def _stated_flip_pairs(category: Mapping[str, Any], label: str) -> IndexPairs | None:
    """The category's own flip pairs, by name; None where it has no such member."""
    stated, names = category.get("flip_pairs"), list(category["keypoints"])
    if stated is None:
        return None
    for pair in stated if isinstance(stated, list | tuple) else [stated]:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(name in names for name in pair):
            raise ValueError(f"{label}: flip_pairs holds {pair!r:.60}; a pair is two names of its keypoints")
    return tuple((names.index(first), names.index(second)) for first, second in stated)


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
