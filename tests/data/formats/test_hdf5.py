import pickle

import numpy
import pytest

from tokenpose.data.formats.hdf5 import check_hdf5, may_run_code, open_hdf5, refuse_code

h5py = pytest.importorskip("h5py")


class Runs:
    def __reduce__(self):
        return print, ("run",)


def test_a_small_file_that_claims_terabytes_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("tracks", (1 << 20, 1 << 20), "f8", chunks=(1, 1024), compression="gzip")
    with pytest.raises(ValueError, match=r"a\.h5 claims 8,796,093,022,208 bytes of data"):
        check_hdf5(tmp_path / "a.h5")


def test_data_of_other_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(ValueError, match="other lies in another file"):
        check_hdf5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    with pytest.raises(ValueError, match="the data of raw lie in another file"):
        check_hdf5(tmp_path / "b.h5")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_that_call_something_are_refused(tmp_path, protocol):
    content = pickle.dumps(Runs(), protocol)
    assert may_run_code(content)
    assert not may_run_code(pickle.dumps([("a", 1, None, 2.5)], protocol))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("g").attrs["name"] = numpy.void(content) if b"\0" in content else numpy.bytes_(content)
        file.create_group("h").attrs["name"] = numpy.bytes_(pickle.dumps(Runs(), 0))
    with pytest.raises(ValueError, match=r"the attribute name of [gh] is a pickle, which may run code; it isn't read"):
        refuse_code(tmp_path / "a.h5")


def test_texts_that_end_with_a_dot_are_no_pickles():
    assert not may_run_code(b"Rows of R.")
    assert may_run_code(b"cos\nsystem\n(S'x'\ntR.")


def test_lists_of_python_objects_are_refused(tmp_path):
    tables = pytest.importorskip("tables")
    with tables.open_file(str(tmp_path / "a.h5"), "w") as file:
        array = file.create_vlarray("/", "objects", tables.ObjectAtom())
        array.append(Runs())
    with pytest.raises(ValueError, match="objects holds Python objects"):
        refuse_code(tmp_path / "a.h5")


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"no hdf5")
    with pytest.raises(ValueError, match=r"a\.h5 is not an HDF5 file"):
        open_hdf5(tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_hdf5(tmp_path / "b.h5")
