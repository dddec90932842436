import math
from pathlib import Path

import pytest

from tokenpose.evaluation.settings import EvaluationSettings


@pytest.mark.parametrize("given", [{"unit": "box"}, {"thresholds": (0.1,)}])
def test_units_and_thresholds_are_refused_with_a_detectors_boxes(given):
    with pytest.raises(ValueError, match="thresholds and unit are of PCK and EPE, which a detector's boxes"):
        EvaluationSettings(boxes=Path("boxes.json"), **given)


SETTINGS = {
    "a metric is one of coco, pck, pckh, epe; got 'ap'": {"metrics": ("ap",)},
    "a unit is one of torso, head, box; got 'arm'": {"unit": "arm"},
    "a PCK threshold must be a positive number of units; got nan": {"thresholds": (math.nan,)},
    "nms is a threshold of OKS": {"nms": 0.0},
    "soft_nms is a threshold of OKS": {"soft_nms": 1.5},
    "box_threshold must be a number; got nan": {"box_threshold": math.nan},
    "batch_size must be at least 1; got 0": {"batch_size": 0},
    "PCK, PCKh and EPE compare a person with their labels": {"metrics": ("coco", "pck"), "boxes": Path("boxes.json")},
}


@pytest.mark.parametrize("message", [message for message in SETTINGS if "one of" not in message])
def test_settings_that_make_no_sense_are_refused_when_they_are_made(message):
    with pytest.raises(ValueError, match=message.replace(";", ".")):
        EvaluationSettings(**SETTINGS[message])


def test_unknown_names_in_settings_are_refused(run_python):  # before the type checker of the tests sees them
    code = "from tokenpose.evaluation.settings import EvaluationSettings\n"
    for given in ("metrics=('ap',)", "unit='arm'"):
        code += f"try: EvaluationSettings({given})\nexcept ValueError as error: print(error)\n"
    assert run_python(code).stdout.splitlines() == [message for message in SETTINGS if "one of" in message]
