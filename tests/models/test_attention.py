import pytest
import torch

from tokenpose.models.attention import PATHS, attend_padded


@torch.no_grad()
@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("width", [1, 5, 8, 12, 24])
def test_every_path_gives_the_softmax_of_the_scaled_products_whatever_a_heads_width(path, width, generator):
    query, key, value = (torch.randn(2, 3, rows, width, generator=generator) for rows in (4, 9, 9))
    expected = (query.double() @ key.double().transpose(2, 3) * 0.7).softmax(dim=-1) @ value.double()
    torch.testing.assert_close(PATHS[path](query, key, value, 0.7).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("width", "padded"), [(1, 8), (5, 8), (8, 8), (12, 16), (17, 24), (24, 24)])
def test_the_padded_path_fills_odd_widths_up_to_the_next_multiple_of_8(width, padded, monkeypatch, generator):
    seen = []

    def attend(query, key, value, scale):
        seen.append((query.shape[-1], key.shape[-1], value.shape[-1]))
        assert not any(part[..., width:].any() for part in (query, key, value))  # filled with zeros
        return value[:, :, : query.shape[2]]

    monkeypatch.setattr("tokenpose.models.attention.functional.scaled_dot_product_attention", attend)
    query, key, value = (torch.randn(1, 2, rows, width, generator=generator) for rows in (3, 6, 6))
    assert torch.equal(attend_padded(query, key, value, 1.0), value[:, :, :3])
    assert seen == [(padded, padded, padded)]
