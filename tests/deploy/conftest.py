import pytest

from tokenpose.deploy import optimization


@pytest.fixture(autouse=True)
def _few_chunks(monkeypatch) -> None:
    """Measuring large batches takes most of the time that `optimize` takes."""
    monkeypatch.setattr(optimization, "_CHUNKS", (1, 2))
