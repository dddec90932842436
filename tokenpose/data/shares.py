"""Shares: how much of every batch each of several training files gets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from tokenpose.data.combine import split_places
from tokenpose.data.samples import Samples

ROUNDING = 1e-6
"""How far a sum of shares may be from 1."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Groups of people, each with its share of every batch. The shares add up to 1."""

    groups: tuple[Int[np.ndarray, " _"], ...]
    shares: tuple[float, ...]


def split_share(text: str | Path) -> tuple[str | Path, float | None]:
    """ "FILE@0.5" or "FILE=PLACE@0.5" -> what stands before the share, and the share.

    No share: None, and for names with "@" that are not followed by a number, for a file that exists as it stands, and
    for a place that does. Raises ValueError for a share that isn't above 0 and at most 1.
    """
    before, mark, last = str(text).rpartition("@")
    try:
        share = float(last)
    except ValueError:
        return text, None
    if not mark or Path(text).exists():
        return text, None
    file, places = split_places(text)
    if places and file.is_file() and Path(places[-1]).exists():
        return text, None
    if not 0 < share <= 1:
        raise ValueError(f"the share of {before} must be above 0 and at most 1; got {last}")
    return before, share


def check_shares(names: Sequence[str], shares: Sequence[float | None]) -> None:
    """Raise ValueError if the shares don't add up to 1, or if they do and leave nothing for the files without one."""
    total = math.fsum(share for share in shares if share is not None)
    rest = [name for name, share in zip(names, shares, strict=True) if share is None]
    if total > 1 + ROUNDING or (not rest and total < 1 - ROUNDING):
        advice = "lower one" if total > 1 else "or leave one out: its file then takes the rest"
        raise ValueError(f"the shares of {', '.join(names)} must add up to 1, and they add up to {total:g}; {advice}")
    if rest and total > 1 - ROUNDING:
        raise ValueError(f"the shares add up to 1, which leaves nothing for {rest[0]}: lower one or leave the file out")


def mix(samples: Samples, shares: Sequence[float | None]) -> Mixture | None:
    """The people of each file with a share, and those of all others as one group. None where no file has a share.

    ``shares``: of the samples' origins. Raises ValueError for a file with a share and without people.
    """
    if all(share is None for share in shares):
        return None
    origin_index = (
        np.zeros(len(samples.files), dtype=np.int64) if samples.origin_index is None else samples.origin_index
    )
    file_of_people = origin_index[samples.image_index]
    groups, chosen = [], []
    for number, share in enumerate(shares):
        if share is not None:
            groups.append(np.flatnonzero(file_of_people == number))
            chosen.append(share)
            if not len(groups[-1]):
                raise ValueError(f"{samples.origins[number]} has a share and no labeled people")
    without = np.isin(file_of_people, [number for number, share in enumerate(shares) if share is None])
    if without.any():
        groups.append(np.flatnonzero(without))
        chosen.append(1 - math.fsum(chosen))
    return Mixture(groups=tuple(groups), shares=tuple(chosen))
