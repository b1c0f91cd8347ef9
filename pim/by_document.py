"""A result document by document."""

import numpy as np
import xarray as xr

from pim.result import Result


def by_document(result: Result) -> xr.Dataset:
    """Perplexity, divergence and agreement of each document; see `Result.documents`."""
    data, axes = result.to_dataset(), tuple(result.axes)
    tokens = data["tokens"]
    chips = {name: (data[name] / tokens).transpose(*axes, "chip", "document") for name in ("nll", "kl", "agree")}
    found = {
        "perplexity": (xr.apply_ufunc(np.exp, chips["nll"]), "1"),
        "digital_perplexity": (xr.apply_ufunc(np.exp, data["digital_nll"] / tokens), "1"),
        "kl": (chips["kl"], "nat"),
        "agreement": (chips["agree"], "1"),
        "tokens": (tokens, "1"),
    }
    return xr.Dataset(
        {name: values.assign_attrs(units=unit) for name, (values, unit) in found.items()}, attrs=data.attrs
    )
