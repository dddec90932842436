import logging

import pytest

from tokenpose.data.formats.cvat import read_cvat

from .exports import keypoint, people_of, train_on, write

# As the documentation of "CVAT for images 1.1" has it.
LABELS = """
<label><name>fly</name><color>#ff0000</color><type>skeleton</type><attributes></attributes>
<svg>&lt;line x1="1" y1="1" x2="2" y2="2" stroke="black" data-type="edge" data-node-from="1" data-node-to="3"&gt;&lt;/line&gt;
&lt;circle r="1.5" cx="1" cy="1" data-type="element node" data-element-id="1" data-node-id="1" data-label-name="head"&gt;&lt;/circle&gt;
&lt;circle r="1.5" cx="2" cy="2" data-type="element node" data-element-id="3" data-node-id="3" data-label-name="right_wing"&gt;&lt;/circle&gt;
&lt;circle r="1.5" cx="3" cy="3" data-type="element node" data-element-id="2" data-node-id="2" data-label-name="left_wing"&gt;&lt;/circle&gt;</svg>
</label>
<label><name>head</name><type>points</type><parent>fly</parent></label>
<label><name>left_wing</name><type>points</type><parent>fly</parent></label>
<label><name>right_wing</name><type>points</type><parent>fly</parent></label>
"""  # noqa: E501
SKELETON = """
<skeleton label="fly" source="manual" z_order="0"{group}>
  <points label="left_wing" source="manual" outside="0" occluded="1" points="10.50,20.25"></points>
  <points label="head" source="manual" outside="0" occluded="0" points="30.00,40.00"></points>
  <points label="right_wing" source="manual" outside="1" occluded="0" points="1.00,1.00"></points>
</skeleton>
"""


def export(shapes: str, labels: str = LABELS) -> str:
    return f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id><name>flies</name><labels>{labels}</labels></task></meta>
<image id="0" name="day 1/a.jpg" width="64" height="48">{shapes}</image>
<image id="1" name="b.jpg" width="64" height="48"></image></annotations>"""


def test_skeletons_are_people_with_limbs_and_visibility(tmp_path):
    content = read_cvat(write(tmp_path / "annotations.xml", export(SKELETON.format(group=""))))
    [fly] = people_of(content, "day 1/a.jpg")
    assert keypoint(content, fly, "head") == [30, 40, 2]
    assert keypoint(content, fly, "left_wing") == [10.5, 20.25, 1]
    assert keypoint(content, fly, "right_wing") == [0, 0, 0]
    [category] = content["categories"]
    assert (category["name"], category["keypoints"]) == ("fly", ["head", "left_wing", "right_wing"])
    assert category["skeleton"] == [[1, 3]]
    assert [image["file_name"] for image in content["images"]] == ["day 1/a.jpg", "b.jpg"]
    assert train_on(content, tmp_path).visible.tolist() == [[True, True, False]]


def test_a_box_of_the_same_group_is_the_skeletons(tmp_path):
    box = '<box label="fly" occluded="0" xtl="5.00" ytl="6.00" xbr="45.00" ybr="46.50" group_id="3"></box>'
    shapes = SKELETON.format(group=' group_id="3"') + SKELETON.format(group=' group_id="4"') + box
    content = read_cvat(write(tmp_path / "annotations.xml", export(shapes)))
    first, second = people_of(content, "day 1/a.jpg")
    assert first["bbox"] == [5, 6, 40, 40.5]
    assert second["bbox"] == pytest.approx([7.575, 17.2875, 25.35, 25.675])  # 19.5 x 19.75, grown by 15 % a side


def test_single_points_are_gathered_by_group_and_box(tmp_path):
    shapes = """
    <points label="head" occluded="0" points="10.00,10.00" group_id="1"></points>
    <points label="tail" occluded="1" points="20.00,20.00" group_id="1"></points>
    <points label="head" occluded="0" points="40.00,30.00" group_id="0"></points>
    <box label="fish" occluded="0" xtl="35" ytl="25" xbr="45" ybr="35" group_id="0"></box>
    <polygon label="fish" points="1,1;2,2;3,3"></polygon>"""
    content = read_cvat(write(tmp_path / "a.xml", export(shapes, "")))
    first, second = content["annotations"]
    assert [keypoint(content, first, name) for name in ("head", "tail")] == [[10, 10, 2], [20, 20, 1]]
    assert (keypoint(content, second, "head"), second["bbox"]) == ([40, 30, 2], [35, 25, 10, 10])
    assert [category["name"] for category in content["categories"]] == ["person", "fish"]


def test_a_shape_of_several_points_is_a_person_with_numbered_keypoints(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    shapes = '<points label="face" occluded="0" points="1.00,2.00;3.00,4.00"></points><polygon points=""/>' * 2
    content = read_cvat(write(tmp_path / "a.xml", export(shapes, "")))
    assert [person["keypoints"] for person in content["annotations"]] == [[1, 2, 2, 3, 4, 2]] * 2
    assert content["categories"][0]["keypoints"] == ["face_0", "face_1"]
    assert any("left out: 2 polygon" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotations><track id='0'/></annotations>", 'is "CVAT for video"; export the task as "CVAT for images 1.1"'),
        ("<annotations/>", "has no <image>"),
        (export("<skeleton label='fly'><points label='head' points='1,x'/></skeleton>"), "y must be a finite number"),
        (
            export("<skeleton label='fly'><points label='head' points='1,2;3,4'/></skeleton>"),
            "must have one point 'head'",
        ),
        (export("").replace('width="64"', 'width="6.5"'), "must be whole numbers of pixels"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a\\.xml.*{message}"):
        read_cvat(write(tmp_path / "a.xml", content))
