"""Matrix products of every size and layout, and the activations after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from trpo_ts.autodiff import matrix_products
from trpo_ts.autodiff.matrix_products import affine, matmul


@pytest.fixture(params=["oneDNN", "MKL"], autouse=True)
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Multiply with the library of other processors, then with that of Intel's."""
    monkeypatch.setattr(matrix_products, "_is_intel", lambda: request.param == "MKL")
    matrix_products._onednn_linear.cache_clear()
    assert (matrix_products._onednn_linear() is None) == (request.param == "MKL")
    yield
    matrix_products._onednn_linear.cache_clear()


@pytest.mark.parametrize("rows", [1, 3, 300, 5000])
@pytest.mark.parametrize("layout", ["rows", "columns", "gaps"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_every_size_and_layout(rows: int, layout: str, dtype: torch.dtype):
    torch.manual_seed(2)
    x = torch.randn(rows, 70, dtype=dtype)
    weight, bias = torch.randn(60, 64, dtype=dtype), torch.randn(60, dtype=dtype)
    x = {"rows": x[:, :64].contiguous(), "columns": x[:, :64].mT.contiguous().mT, "gaps": x[:, :64]}[layout]
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}[dtype]
    wanted = x.double() @ weight.double().mT
    torch.testing.assert_close(affine(x, weight), wanted.to(dtype), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        affine(x, weight, bias), (wanted + bias.double()).to(dtype), rtol=tolerance, atol=tolerance
    )
    torch.testing.assert_close(matmul(x, weight.mT), wanted.to(dtype), rtol=tolerance, atol=tolerance)
    assert affine(x, weight).dtype == dtype


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("rows", [3, 5000])
def test_activations_after_products_of_every_size(activation: str, rows: int):
    torch.manual_seed(2)
    x, weight, bias = torch.randn(rows, 64), torch.randn(60, 64), torch.randn(60)
    wanted = getattr(torch, activation)(x.double() @ weight.double().mT + bias.double())
    torch.testing.assert_close(affine(x, weight, bias, activation), wanted.float(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("rows", [3, 200, 5000])
def test_small_values_of_tanh_keep_all_their_digits(rows: int, scale: float):
    torch.manual_seed(2)
    x, weight = scale * torch.rand(rows, 1), torch.rand(60, 1)
    wanted = torch.tanh(x.double() @ weight.double().mT)
    torch.testing.assert_close(affine(x, weight, None, "tanh").double(), wanted, rtol=5e-7, atol=0.0)


@pytest.mark.parametrize("activation", ["none", "tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("rows", [3, 5000])
def test_what_is_not_finite_stays_so(activation: str, rows: int):
    torch.manual_seed(2)
    x, weight = torch.randn(rows, 64), torch.randn(60, 64)
    weight[7] = float("nan")
    y = affine(x, weight, torch.zeros(60), activation)
    assert y[:, 7].isnan().all()
    assert y.isfinite().sum() == rows * 59
