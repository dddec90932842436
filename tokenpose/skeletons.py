"""Skeletons: what the keypoints of a body (or of anything) are called and how they hang together."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Pairs = tuple[tuple[int, int], ...]

MOST_KEYPOINTS = 4_096  # far beyond any skeleton; a mistyped or hostile count is refused before it fills the memory

_SIDES = {"left": "right", "l": "r"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD.findall(name))


def sideless_words(name: str) -> tuple[str, ...]:
    """The words of a keypoint's name in lower case, without its side: "left_hip", "hipL" and "Hip" are ("hip",)."""
    return tuple(word for word in _words(name) if word not in _SIDES and word not in _SIDES.values())


def _as_tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(_as_tuples(entry) for entry in value) if isinstance(value, list) else value


def infer_flip_pairs(keypoints: Iterable[str]) -> Pairs | None:
    """Pair left with right keypoints by their names ("left_hip" / "right_hip", "l_hip", "hipL", "Left hip", ...).

    Returns None where it can't be told: no name has a side, or a name with a side has no partner.
    """
    words = [_words(name) for name in keypoints]
    position = {name: index for index, name in enumerate(words)}
    if len(position) < len(words):
        return None
    pairs = []
    for left, right in _SIDES.items():
        for index, name in enumerate(words):
            if left in name:
                mirrored = tuple(right if word == left else word for word in name)
                if mirrored not in position:
                    return None
                pairs.append((index, position[mirrored]))
            elif right in name and tuple(left if word == right else word for word in name) not in position:
                return None
    return tuple(sorted(pairs)) or None


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
        if not category.get("keypoints"):
            raise ValueError(f"category {category.get('name', category.get('id'))!r} lists no keypoint names")
        names = tuple(category["keypoints"])
        limbs = tuple((a - 1, b - 1) for a, b in category.get("skeleton") or ())
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
