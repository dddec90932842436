import gc
import logging

import numpy as np
import pytest
from PIL import Image

from tokenpose.data.formats.sleap import read_sleap

from .exports import people_of, save_image, train_on

sleap_io = pytest.importorskip("sleap_io")

POSITIONS = np.array([[10, 12.5], [20, 30], [np.nan, np.nan]])


@pytest.fixture
def skeleton():
    return sleap_io.Skeleton(
        ["head", "left_wing", "right_wing"],
        edges=[("head", "left_wing"), ("head", "right_wing")],
        symmetries=[("right_wing", "left_wing")],
        name="fly",
    )


@pytest.fixture
def video(tmp_path):
    paths = []
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        paths.append(tmp_path / "frames" / f"f{index}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(paths[-1])
    return sleap_io.Video([str(path) for path in paths])


def labeled(skeleton, video):
    """Frame 1: a fly by a person with a track, and a prediction; frame 2: a prediction."""
    own = sleap_io.Instance.from_numpy(POSITIONS, skeleton=skeleton, track=sleap_io.Track("a"))
    found = sleap_io.PredictedInstance.from_numpy(
        POSITIONS + 1, skeleton=skeleton, point_scores=np.array([0.5, 1.25, 0.75]), score=0.9
    )
    return [
        sleap_io.LabeledFrame(video=video, frame_idx=1, instances=[own, found]),
        sleap_io.LabeledFrame(video=video, frame_idx=2, instances=[found]),
    ]


def test_slp_gives_what_people_labeled_with_limbs_pairs_and_tracks(tmp_path, skeleton, video):
    sleap_io.Labels(labeled(skeleton, video)).save(str(tmp_path / "a.slp"), embed=False)
    content = read_sleap(tmp_path / "a.slp")
    [image] = content["images"]
    assert image["file_name"].endswith("frames/f1.png")
    assert (image["width"], image["height"], image["frame"]) == (80, 60, 1)
    [fly] = content["annotations"]
    assert (fly["keypoints"], fly["track"]) == ([10, 12.5, 2, 20, 30, 2, 0, 0, 0], "a")
    assert content["categories"] == [
        {
            "id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": [[1, 2], [1, 3]],
            "flip_pairs": [["left_wing", "right_wing"]],
        }
    ]  # fmt: skip
    assert train_on(content, tmp_path).visible.tolist() == [[True, True, False]]


def test_a_point_that_is_not_visible_is_not_labeled(tmp_path, skeleton, video):
    frames = labeled(skeleton, video)
    frames[0].instances[0].points["visible"][1] = False
    sleap_io.Labels(frames).save(str(tmp_path / "a.slp"), embed=False)
    assert read_sleap(tmp_path / "a.slp")["annotations"][0]["keypoints"] == [10, 12.5, 2, 0, 0, 0, 0, 0, 0]


def test_predictions_are_read_with_scores_where_nobody_labeled(tmp_path, skeleton, video, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    sleap_io.Labels(labeled(skeleton, video)[1:]).save(str(tmp_path / "a.slp"), embed=False)
    [fly] = read_sleap(tmp_path / "a.slp")["annotations"]
    assert (fly["keypoints"], fly["scores"]) == ([11, 13.5, 2, 21, 31, 2, 0, 0, 0], [0.5, 1, 0])
    assert any("has no labels by people" in line for line in caplog.messages)


def test_the_images_of_a_package_are_written_as_they_were(tmp_path, skeleton, video, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    sleap_io.Labels(labeled(skeleton, video)).save(str(tmp_path / "a.pkg.slp"), embed=True, verbose=False)
    content = read_sleap(tmp_path / "a.pkg.slp", frames=tmp_path / "out")
    assert [image["file_name"] for image in content["images"]] == ["video0/00000001.png"]
    with Image.open(tmp_path / "out" / "video0" / "00000001.png") as written, Image.open(video.filename[1]) as frame:
        assert np.array_equal(np.asarray(written), np.asarray(frame))
    assert any(line.endswith(f"wrote 1 image to {tmp_path / 'out'}") for line in caplog.messages)
    assert len(people_of(content, "video0/00000001.png")) == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # imageio leaves the pipes of its ffmpeg to the collector
def test_analysis_h5_is_read_and_the_videos_frames_are_written(tmp_path, skeleton):
    imageio = pytest.importorskip("imageio.v2")
    with imageio.get_writer(str(tmp_path / "clip.mp4"), fps=5, macro_block_size=1) as writer:
        for value in (0, 100, 200):
            writer.append_data(np.full((64, 80, 3), value, dtype=np.uint8))
    clip = sleap_io.load_video(str(tmp_path / "clip.mp4"))
    sleap_io.save_analysis_h5(sleap_io.Labels(labeled(skeleton, clip)[1:]), str(tmp_path / "a.h5"))
    clip.close()
    content = read_sleap(tmp_path / "a.h5", frames=tmp_path / "out")
    gc.collect()
    [image] = content["images"]
    assert (image["file_name"], image["width"], image["height"]) == ("clip/00000002.png", 80, 64)
    assert content["annotations"][0]["keypoints"] == [11, 13.5, 2, 21, 31, 2, 0, 0, 0]
    with Image.open(tmp_path / "out" / "clip" / "00000002.png") as written:
        assert np.asarray(written).mean() == pytest.approx(200, abs=3)


def test_a_video_that_is_missing_is_named_and_its_size_is_that_of_given_frames(tmp_path, skeleton, caplog):
    clip = sleap_io.Video("gone/clip.mp4", open_backend=False)
    sleap_io.save_analysis_h5(sleap_io.Labels(labeled(skeleton, clip)[1:]), str(tmp_path / "a.h5"))
    with pytest.raises(
        FileNotFoundError, match=r"doesn't say how large clip/00000002\.png is, and gone/clip\.mp4 isn't"
    ):
        read_sleap(tmp_path / "a.h5")
    save_image(tmp_path / "frames" / "clip" / "00000002.png", 80, 60)
    content = read_sleap(tmp_path / "a.h5", images=tmp_path / "frames", frames=tmp_path / "out")
    assert (
        f"gone/clip.mp4 can't be read (there is no such file): write its frames yourself, frame 12 to {tmp_path}"
        in (caplog.text)
    )
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (80, 60)


def test_a_frame_beyond_the_list_of_images_is_refused(tmp_path, skeleton, video):
    frames = labeled(skeleton, video)
    frames[0].frame_idx = 7
    sleap_io.Labels(frames).save(str(tmp_path / "a.slp"), embed=False)
    with pytest.raises(ValueError, match=r"a\.slp: there is no frame 7 among 3 images"):
        read_sleap(tmp_path / "a.slp")


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "a.slp").write_bytes(b"no hdf5")
    with pytest.raises(ValueError, match=r"a\.slp is not an HDF5 file"):
        read_sleap(tmp_path / "a.slp")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "b.slp", "w") as file:
        file["a"] = [1]
    with pytest.raises(ValueError, match=r"b\.slp can't be read as SLEAP's file"):
        read_sleap(tmp_path / "b.slp")
