import dataclasses

import numpy as np
import pytest
import torch

from tokenpose.data.augment import Augmentation
from tokenpose.jobs.sheets import MOST_PEOPLE, PERSON_SIDE, draw_batch, draw_first_batch, draw_sheet
from tokenpose.jobs.training_data import read_training_data
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.predictor import PosePredictor
from tokenpose.skeletons import LSP
from tokenpose.training.settings import TrainingSettings

from ..drawing import draw_people

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(96, 72), patch_size=(16, 12), skeleton=LSP, width=48, heads=4,
    depth=1, heatmap_size=(48, 36), sigma=1.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    people = draw_people(tmp_path_factory.mktemp("drawn"), 6)
    return read_training_data(people, people, people.parent)


@pytest.fixture(scope="module")
def predictor() -> PosePredictor:
    torch.manual_seed(0)
    return PosePredictor(TokenPose(SPEC).eval())


@pytest.mark.parametrize(("count", "drawn"), [(1, 1), (4, 4), (100, 6)])
def test_sheet_has_as_many_people_as_are_asked_for_and_there(data, predictor, count, drawn):
    height, width, _ = draw_sheet(predictor, data.people, data.source, count, 0.0).shape
    columns, lines = min(drawn, 5), -(-drawn // 5)
    assert (width, height) == (columns * (2 * PERSON_SIDE + 2 + 6) + 6, lines * (PERSON_SIDE + 18 + 6) + 6)


def test_labels_are_on_the_left_of_the_sheet_and_predictions_from_the_threshold_on_on_the_right(data, predictor):
    bare = data.people.take(slice(1))
    bare = dataclasses.replace(bare, visible=np.zeros_like(bare.visible))
    left, right = (slice(6, 6 + PERSON_SIDE), slice(6 + PERSON_SIDE + 2, None))
    neither = draw_sheet(predictor, bare, data.source, 1, np.inf)
    labeled = draw_sheet(predictor, data.people, data.source, 1, np.inf)
    predicted = draw_sheet(predictor, bare, data.source, 1, -np.inf)
    assert (labeled != neither)[:, left].any()
    assert not (labeled != neither)[:, right].any()
    assert (predicted != neither)[:, right].any()
    assert not (predicted != neither)[:, left].any()


def test_first_batch_is_drawn_whole_and_the_same_each_time(data):
    settings = TrainingSettings(batch_size=4, augmentation=Augmentation(color=0.3))
    first, second = (draw_first_batch(data, SPEC, settings) for _ in range(2))
    assert np.array_equal(first, second)
    height, width = 320, 240  # of each crop, enlarged
    assert first.shape[0] > height
    assert first.shape[1] > 4 * width


def test_heat_lies_where_the_keypoints_are(data):
    from tokenpose.data.batches import TrainingBatches
    from tokenpose.data.windows import WindowDataset

    still = Augmentation(scale=0.0, rotation=0.0, flip=0.0)
    batches = TrainingBatches(WindowDataset(data.people, data.source, SPEC, still), still, batch_size=1, seed=0)
    batch = next(batches.epoch(0))
    with_heat = draw_batch(batch, SPEC).astype(int)
    without = draw_batch(batch._replace(heatmaps=torch.zeros_like(batch.heatmaps)), SPEC).astype(int)
    redder = (with_heat - without)[..., 0] > 30
    assert 0.005 < redder.mean() < 0.3
    neck = batch.keypoints[0, LSP.index("neck")]
    # a cell is (72 - 1) / (36 - 1) crop pixels, which are drawn 320 / 96 times as large, inside a frame of 6
    x, y = ((neck + 0.5) * (71 / 35) * (320 / 96) + 6).round().long().tolist()
    assert redder[y - 12 : y + 12, x - 12 : x + 12].any()


def test_no_more_than_some_people_are_drawn(data):
    settings = TrainingSettings(batch_size=6)
    spread = data.people.take(np.zeros(MOST_PEOPLE + 9, dtype=np.int64))
    many = type(data)(people=spread, source=data.source, held_out=data.held_out, held_out_source=data.held_out_source)
    few = draw_first_batch(many, SPEC, TrainingSettings(batch_size=MOST_PEOPLE))
    more = draw_first_batch(many, SPEC, TrainingSettings(batch_size=MOST_PEOPLE + 9))
    assert more.shape == few.shape
    assert draw_first_batch(data, SPEC, settings).shape[0] < few.shape[0]
