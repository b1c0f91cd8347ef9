"""A result document by document."""

import numpy as np
import xarray as xr

from pim.result import Result


def by_document(result: Result) -> xr.Dataset:
    """Perplexity, divergence and agreement of each document; see `Result.documents`."""
    data, axes = result.to_dataset(), tuple(result.axes)
    tokens = data["tokens"]
    each = lambda name, unit: (data[name] / tokens).transpose(*axes, "chip", "document").assign_attrs(units=unit)
    return xr.Dataset({
        "perplexity": np.exp(each("nll", "1")),
        "digital_perplexity": np.exp(data["digital_nll"] / tokens).assign_attrs(units="1"),
        "kl": each("kl", "nat"),
        "agreement": each("agree", "1"),
        "tokens": tokens,
    }, attrs=data.attrs)  # fmt: skip
