"""What is wrong with the records of a COCO keypoint file: one set of rules for training, evaluation and the check.

Training uses the images, and the annotations that are no crowds and have a labeled keypoint. Evaluation also uses
crowds and people without labeled keypoints, since a prediction that matches them is ignored; without a box nothing
matches them, and they are not used. Nothing here uses the ids of annotations: those faults stop neither.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from tokenpose.data.coco_categories import name_categories
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.coco_records import WHOLE_RECORD, AnnotationRecords, ImageRecords
from tokenpose.data.faults import REPAIR, Fault, Kind, Use, is_id

BOTH = frozenset[Use](("training", "evaluation"))
EVALUATION = frozenset[Use](("evaluation",))
NEITHER = frozenset[Use]()

BOX_ADVICE = (
    "give the person one, or take boxes from the keypoints: --boxes-from-keypoints 0.15, in Python "
    "boxes_from_keypoints=0.15"
)


def find_faults(
    images: ImageRecords, annotations: AnnotationRecords, categories: Sequence[Any], columns: CocoColumns
) -> Iterator[Fault]:
    """The faults of the file's records: of categories, images and annotations, each by position."""
    for position, category in enumerate(categories):
        if not isinstance(category, dict):
            message = f"a category must be an object; got {category!r:.60}"
            yield Fault(section="categories", position=position, field="", kind="not an object", message=message)
    for position, field in images.odd:
        yield _image_fault(images, position, field)
    rules = _AnnotationRules(images, annotations, columns)
    faults = [*rules.check_categories(categories), *rules.check_ids(), *rules.check_fields()]
    yield from sorted(faults, key=lambda fault: fault.position)


def _image_fault(images: ImageRecords, position: int, field: str) -> Fault:
    found, identity = images.odd[position, field], images.ids[position]
    kind: Kind = "missing" if found in ("None", "None and None") else "invalid"
    if field == WHOLE_RECORD:
        kind, message = "not an object", f"an image must be an object; got {found}"
    elif field == "file_name":
        message = f"file_name must be a name; got {found}"
    elif field == "width":
        message = f"width and height must be numbers of pixels, at least 1; got {found}"
    elif is_id(identity):
        first = images.positions[identity]
        kind = "repeated"
        message = f"id must be unique; images[{first}] ({images.files[first]}) has {identity!r:.60} too"
    else:
        message = f"id must be a number or text; got {found}"
    name = images.files[position]
    return Fault(
        section="images", position=position, identity=identity, image=name, field=field, kind=kind, message=message
    )


class _AnnotationRules:
    """What the fields of annotations must hold."""

    def __init__(self, images: ImageRecords, annotations: AnnotationRecords, columns: CocoColumns) -> None:
        self.images, self.annotations, self.columns = images, annotations, columns
        self.row_of = {position: row for row, position in enumerate(columns.positions.tolist())}

    def check_categories(self, categories: Sequence[Any]) -> Iterator[Fault]:
        """Annotations that are not objects, or of no category that the file lists."""
        listed = [entry["id"] for entry in categories if isinstance(entry, dict) and "id" in entry]
        chosen = [entry["id"] for entry in self.columns.categories]
        for position, category in enumerate(self.annotations.category_ids):
            if category in chosen or (category is not None and category in listed):
                continue
            found = self.annotations.odd.get((position, WHOLE_RECORD))
            if found is not None:
                yield self._fault(position, "", "not an object", f"an annotation must be an object; got {found}")
                continue
            message = f"category_id must be one of {name_categories(categories)}; got {category!r:.60}"
            yield self._fault(position, "category_id", "missing" if category is None else "unlisted", message)

    def check_ids(self) -> Iterator[Fault]:
        """Ids of the category's annotations that are no ids, or that an annotation before has."""
        first: dict[Any, int] = {}
        for position, identity in zip(self.columns.positions.tolist(), self.columns.ids, strict=True):
            if not is_id(identity):
                message = f"id must be a number or text; got {identity!r:.60}"
                yield self._fault(position, "id", "missing" if identity is None else "invalid", message, NEITHER)
            elif first.setdefault(identity, position) != position:
                message = f"id must be unique; annotations[{first[identity]}] has {identity!r:.60} too"
                yield self._fault(position, "id", "repeated", message, NEITHER)

    def check_fields(self) -> Iterator[Fault]:
        """The other fields of the category's annotations, as far as training or evaluation uses them."""
        columns = self.columns
        crowd, unlabeled = columns.is_crowd, columns.is_unlabeled
        unreadable_box = self._unreadable("bbox")
        no_box = ~columns.has_box & ~unreadable_box
        trained = ~crowd & ~unlabeled
        evaluated = trained | ~no_box
        everybody = np.ones(len(columns), dtype=bool)
        for field, faulty, in_training, in_evaluation in (
            ("iscrowd", self._unreadable("iscrowd"), everybody, everybody),
            ("keypoints", np.isnan(columns.keypoints).any(axis=(1, 2)), ~crowd, everybody),
            ("scores", self._bad_scores(), trained, trained),
            ("image_id", columns.image_index < 0, trained, evaluated),
            ("bbox", unreadable_box | no_box, trained, evaluated),
            ("area", self._unreadable("area"), trained, evaluated),
            ("num_keypoints", self._unreadable("num_keypoints"), ~everybody, evaluated),
        ):
            for row in np.flatnonzero(faulty & in_evaluation).tolist():
                position = int(columns.positions[row])
                kind, message = self._describe(position, field)
                stops = BOTH if in_training[row] else EVALUATION
                advice = BOX_ADVICE if field == "bbox" and kind == "missing" else REPAIR
                yield self._fault(position, field, kind, message, stops, advice)

    def _unreadable(self, field: str) -> Bool[np.ndarray, " rows"]:
        """Which annotations have something in the field that can't be used."""
        unreadable = np.zeros(len(self.columns), dtype=bool)
        unreadable[[self.row_of[row] for row in self.annotations.unreadable(field) if row in self.row_of]] = 1
        return unreadable

    def _bad_scores(self) -> Bool[np.ndarray, " rows"]:
        """Which annotations have scores of keypoints that can't be used. A list that isn't one has a NaN."""
        scores = self.columns.scores
        return np.zeros(len(self.columns), dtype=bool) if scores is None else np.isnan(scores).any(axis=1)

    def _describe(self, position: int, field: str) -> tuple[Kind, str]:
        found = self.annotations.odd.get((position, field))
        count, given = len(self.columns.skeleton), self.annotations.keypoint_counts[position]
        if field == "iscrowd":
            return "invalid", f"iscrowd must be 0 or 1; got {found}"
        if field == "keypoints":
            expected = f"keypoints must be {3 * count} finite numbers, x, y, v of {count} keypoints"
            length: Kind = "wrong length" if found is None else "invalid"
            return length, f"{expected}; got {found or f'{given} numbers'}"
        if field == "scores":
            given = self.annotations.score_counts[position]
            length = "wrong length" if found is None else "invalid"
            expected = f"scores must be {count} numbers from 0 to 1, one for each keypoint"
            return length, f"{expected}; got {found or f'{given} numbers'}"
        if field == "image_id":
            image = self.annotations.image_ids[position]
            return (
                "missing" if image is None else "unlisted",
                f"image_id must be that of a listed image; got {image!r:.60}",
            )
        if field == "bbox":
            kind: Kind = "invalid" if found else "missing"
            found = found or self.annotations.empty_boxes.get(position, "nothing")
            return kind, f"bbox must be 4 finite numbers, x, y, width, height; got {found}"
        if field == "area":
            return "invalid", f"area must be a number of square pixels, at least 0; got {found}"
        return "invalid", f"num_keypoints must be a whole number, at least 0; got {found}"

    def _fault(
        self, position: int, field: str, kind: Kind, message: str, stops: frozenset[Use] = BOTH, advice: str = REPAIR
    ) -> Fault:
        identity, image = self.annotations.ids[position], self.annotations.image_ids[position]
        row = self.images.positions.get(image) if is_id(image) else None
        return Fault(
            section="annotations",
            position=position,
            identity=identity,
            image=None if row is None else self.images.files[row],
            field=field,
            kind=kind,
            message=message,
            advice=advice,
            stops=stops,
        )
