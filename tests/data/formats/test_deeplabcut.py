import io
import math

import pytest
import yaml

from tokenpose.data.formats.deeplabcut import read_deeplabcut

from .exports import keypoint, people_of, save_image, train_on, write

ONE = """scorer,,,me,me,me,me
bodyparts,,,snout,snout,tail,tail
coords,,,x,y,x,y
labeled-data,vid,img001.png,10.5,11.25,20,21
labeled-data,vid,img002.png,,,30,31
labeled-data,vid,img003.png,,,,
"""
SEVERAL = """scorer,me,me,me,me,me,me,me,me,me,me
individuals,mouse1,mouse1,mouse1,mouse1,mouse2,mouse2,mouse2,mouse2,single,single
bodyparts,snout,snout,tail,tail,snout,snout,tail,tail,corner,corner
coords,x,y,x,y,x,y,x,y,x,y
labeled-data/vid/img001.png,1,2,3,4,11,12,13,14,50,51
labeled-data/vid/img002.png,5,6,,,,,,,,
"""


@pytest.fixture
def project(tmp_path):
    for number in (1, 2, 3):
        save_image(tmp_path / "labeled-data" / "vid" / f"img00{number}.png", 80, 60)
    write(tmp_path / "config.yaml", yaml.safe_dump({"Task": "t", "skeleton": [["snout", "tail"], ["snout", "ear"]]}))
    return tmp_path


def check_one(content: dict) -> None:
    [mouse] = people_of(content, "labeled-data/vid/img001.png")
    assert mouse["keypoints"] == [10.5, 11.25, 2, 20, 21, 2]
    [mouse] = people_of(content, "labeled-data/vid/img002.png")
    assert mouse["keypoints"] == [0, 0, 0, 30, 31, 2]
    assert people_of(content, "labeled-data/vid/img003.png") == []
    assert content["images"][0] == {
        "id": 1, "file_name": "labeled-data/vid/img001.png", "width": 80, "height": 60, "video": "vid",
    }  # fmt: skip
    assert [(kind["name"], kind["keypoints"]) for kind in content["categories"]] == [("animal", ["snout", "tail"])]


def check_several(content: dict) -> None:
    first, second, corner = people_of(content, "labeled-data/vid/img001.png")
    assert (first["keypoints"], first["individual"]) == ([1, 2, 2, 3, 4, 2], "mouse1")
    assert (second["keypoints"], second["individual"]) == ([11, 12, 2, 13, 14, 2], "mouse2")
    assert corner["keypoints"] == [50, 51, 2]
    assert len(people_of(content, "labeled-data/vid/img002.png")) == 1
    assert [kind["name"] for kind in content["categories"]] == ["animal", "single"]


def test_csv_of_one_animal_gives_positions_limbs_and_sizes(project):
    content = read_deeplabcut(write(project / "labeled-data" / "vid" / "CollectedData_me.csv", ONE))
    check_one(content)
    assert content["categories"][0]["skeleton"] == [[1, 2]]
    assert len(train_on(content, project)) == 2


def test_csv_of_several_animals_and_a_whole_project(project):
    write(project / "labeled-data" / "vid" / "CollectedData_me.csv", SEVERAL)
    content = read_deeplabcut(project)
    check_several(content)
    assert len(train_on(content, project, "animal")) == 3


def test_images_may_be_elsewhere_and_paths_of_another_machine(tmp_path, project):
    text = SEVERAL.replace("labeled-data/vid/img", "C:\\mice\\labeled-data\\vid\\img")
    path = write(tmp_path / "elsewhere" / "CollectedData_me.csv", text)
    check_several(read_deeplabcut(path, images=project))
    with pytest.raises(FileNotFoundError, match="say where the images are"):
        read_deeplabcut(path)


def frame_of(text: str):
    """The table as DeepLabCut holds it."""
    import pandas

    levels = 3 if "individuals" not in text else 4
    index = [0, 1, 2] if text.startswith("scorer,,,") else 0
    frame = pandas.read_csv(io.StringIO(text), header=list(range(levels)), index_col=index)
    frame.index.names = [None] * frame.index.nlevels
    names = ["scorer", "individuals", "bodyparts", "coords"] if levels == 4 else ["scorer", "bodyparts", "coords"]
    frame.columns.names = names
    return frame


@pytest.mark.parametrize("form", ["fixed", "table"])
@pytest.mark.parametrize(("text", "check"), [(ONE, check_one), (SEVERAL, check_several)])
def test_h5_as_pandas_writes_it_gives_the_same_as_csv(project, text, check, form):
    pytest.importorskip("tables")
    frame = frame_of(text)
    if form == "table" and frame.index.nlevels > 1:  # versions with tables had whole paths
        frame.index = ["/".join(key) for key in frame.index]
    path = project / "labeled-data" / "vid" / "CollectedData_me.h5"
    frame.to_hdf(path, key="df_with_missing", mode="w", format=form)
    check(read_deeplabcut(path))
    check(read_deeplabcut(project))


def test_a_csv_that_pandas_wrote_is_read(project):
    pytest.importorskip("pandas")
    path = project / "labeled-data" / "vid" / "CollectedData_me.csv"
    frame_of(ONE).to_csv(path)
    check_one(read_deeplabcut(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" * 200_000, "is not csv: field larger than field limit"),
        ("a,b\n", "is not DeepLabCut's csv: its first column must begin with scorer, bodyparts, coords"),
        (ONE.replace("20,21", "20"), "line 4 has 6 columns; the header has 7"),
        (ONE.replace("20,21", "20,x"), "line 4: 'x' is not a number"),
        (ONE.replace("20,21", "20,"), "tail of animal has only x; a position is x and y"),
        (ONE.replace("coords,,,x,y,x,y", "coords,,,x,y,x,likelihood"), "has predictions, of a video's frames"),
        (ONE.replace("tail,tail", "snout,snout"), "must have one x and one y for each body part"),
        (SEVERAL.replace("labeled-data/vid/img001.png", "17"), "row '17' names no image: it is a frame of a video"),
    ],
)
def test_other_files_are_refused_by_name(project, text, message):
    with pytest.raises(ValueError, match=f"CollectedData_me\\.csv.*{message}"):
        read_deeplabcut(write(project / "CollectedData_me.csv", text))


def test_an_h5_that_is_no_table_of_deeplabcut_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = [math.pi]
    with pytest.raises(ValueError, match=r"a\.h5 is not a table that pandas wrote: it has no df_with_missing"):
        read_deeplabcut(tmp_path / "a.h5")


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no CollectedData_\*\.csv"):
        read_deeplabcut(tmp_path)


def test_values_are_those_of_the_file_to_the_last_digit(project):
    text = ONE.replace("10.5", "10.123456789012345")
    content = read_deeplabcut(write(project / "CollectedData_me.csv", text))
    [mouse] = people_of(content, "labeled-data/vid/img001.png")
    assert keypoint(content, mouse, "snout")[0] == 10.123456789012345
