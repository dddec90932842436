import pytest

from tokenpose.data.formats.hdf5 import check_hdf5, open_hdf5

h5py = pytest.importorskip("h5py")


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


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"no hdf5")
    with pytest.raises(ValueError, match=r"a\.h5 is not an HDF5 file"):
        open_hdf5(tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_hdf5(tmp_path / "b.h5")
