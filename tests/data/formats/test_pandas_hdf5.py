import pickle

import numpy as np
import pytest

from tokenpose.data.formats.pandas_hdf5 import read_frame, read_plain_pickle

h5py = pytest.importorskip("h5py")
pytest.importorskip("tables")
pandas = pytest.importorskip("pandas")


class Runs:
    def __reduce__(self):
        return print, ("run",)


def frame(columns=None, index=None, values=None):
    columns = columns or pandas.MultiIndex.from_product([["me"], ["tail", "snout"], ["x", "y"]])
    return pandas.DataFrame(np.arange(8.0).reshape(2, 4) if values is None else values, columns=columns, index=index)


@pytest.mark.parametrize("form", ["fixed", "table"])
def test_names_and_values_are_those_that_pandas_stored(tmp_path, form):
    stored = frame(index=["v/a.png", "v/ä.png"])
    stored.iloc[0, 1] = np.nan
    stored.to_hdf(tmp_path / "a.h5", key="k", format=form)
    read = read_frame(tmp_path / "a.h5", "k")
    assert read.columns == [("me", part, axis) for part in ("tail", "snout") for axis in "xy"]
    assert read.rows == [("v/a.png",), ("v/ä.png",)]
    assert np.array_equal(read.values, stored.to_numpy(), equal_nan=True)


@pytest.mark.parametrize("form", ["fixed", "table"])
def test_columns_of_several_types_keep_their_order(tmp_path, form):
    stored = frame(index=["a", "b"])
    stored = stored.astype({stored.columns[1]: np.float32, stored.columns[2]: np.int64})
    stored.to_hdf(tmp_path / "a.h5", key="k", format=form)
    read = read_frame(tmp_path / "a.h5", "k")
    assert read.values.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert read.columns == list(stored.columns)


def test_rows_of_several_levels_and_numbers_are_names(tmp_path):
    index = pandas.MultiIndex.from_tuples([("labeled-data", "v", "a.png"), ("labeled-data", "v", "b.png")])
    frame(index=index).to_hdf(tmp_path / "a.h5", key="k")
    assert read_frame(tmp_path / "a.h5", "k").rows == list(index)
    frame().to_hdf(tmp_path / "b.h5", key="k")
    assert read_frame(tmp_path / "b.h5", "k").rows == [("0",), ("1",)]


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path, capsys):
    frame(index=["a", "b"]).to_hdf(tmp_path / "a.h5", key="k", format="table")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["k"].attrs["non_index_axes"] = np.bytes_(pickle.dumps([(1, Runs())], 0))
    with pytest.raises(
        ValueError, match=r"a\.h5 is not a table that pandas wrote: its names are a pickle that may run"
    ):
        read_frame(tmp_path / "a.h5", "k")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_hold_plain_values_in_every_protocol(protocol):
    plain = [("a", 1, None, 2.5), {"b": ["c"]}]
    assert read_plain_pickle(pickle.dumps(plain, protocol)) == plain
    with pytest.raises(ValueError, match="a pickle that may run code"):
        read_plain_pickle(pickle.dumps([Runs()], protocol))


def test_names_that_are_python_objects_are_refused(tmp_path):
    import tables

    frame(index=["a", "b"]).to_hdf(tmp_path / "a.h5", key="k")
    with tables.open_file(str(tmp_path / "a.h5"), "r+") as file:
        file.remove_node("/k/axis1")
        file.create_vlarray("/k", "axis1", tables.ObjectAtom()).append(["a", "b"])
    with pytest.raises(ValueError, match="the names in /k/axis1 are stored as object, not as text"):
        read_frame(tmp_path / "a.h5", "k")


def test_other_files_are_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = [1]
    with pytest.raises(ValueError, match=r"a\.h5 is not a table that pandas wrote: it has no k, but \['other'\]"):
        read_frame(tmp_path / "a.h5", "k")
