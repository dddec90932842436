"""Tokens and their positions."""

import pytest
import torch

from tokenpose.models.tokens import sine_positions

from .reference import sine_table


@pytest.mark.parametrize(("grid", "width"), [((16, 16), 192), ((32, 24), 192), ((5, 7), 64), ((1, 1), 96)])
def test_sine_table_is_the_reference_one(grid, width):
    torch.testing.assert_close(sine_positions(grid, width), sine_table(grid, width).float(), rtol=0, atol=1e-6)
