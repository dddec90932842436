import math
import re
from pathlib import Path

import pytest

from tokenpose.evaluation.settings import EvaluationSettings


@pytest.mark.parametrize("given", [{"unit": "box"}, {"thresholds": (0.1,)}])
def test_units_and_thresholds_are_refused_with_a_detectors_boxes(given):
    with pytest.raises(ValueError, match=r"(thresholds|unit) has no effect with boxes of a detector"):
        EvaluationSettings(boxes=Path("boxes.json"), **given)


SETTINGS = {
    'metrics must be a list of "coco", "pck", "pckh", "epe" or "ece"; got (\'ap\',)': {"metrics": ("ap",)},
    'unit must be "torso", "head" or "box"; got \'arm\'': {"unit": "arm"},
    "thresholds must be a list of finite numbers; got (nan,)": {"thresholds": (math.nan,)},
    "nms must be above 0 and at most 1; got 0.0": {"nms": 0.0},
    "soft_nms must be above 0 and at most 1; got 1.5": {"soft_nms": 1.5},
    "box_threshold must be a finite number; got nan": {"box_threshold": math.nan},
    "batch_size must be at least 1; got 0": {"batch_size": 0},
    "results must be a .json file, or a .mat file for MPII's data; got out.txt": {"results": Path("out.txt")},
    "boxes of a detector allow only the metric coco": {"metrics": ("coco", "pck"), "boxes": Path("boxes.json")},
}


@pytest.mark.parametrize("message", [message for message in SETTINGS if '"' not in message])
def test_settings_that_make_no_sense_are_refused_when_they_are_made(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        EvaluationSettings(**SETTINGS[message])


def test_unknown_names_in_settings_are_refused(run_python):  # before the type checker of the tests sees them
    code = "from tokenpose.evaluation.settings import EvaluationSettings\n"
    for given in ("metrics=('ap',)", "unit='arm'"):
        code += f"try: EvaluationSettings({given})\nexcept ValueError as error: print(error)\n"
    assert run_python(code).stdout.splitlines() == [message for message in SETTINGS if '"' in message]
