"""The registry of models: one line a family, in the order of the table's columns. Imports no torch."""

from models import diffusers_hub, infinity, pixart, sdxl, var
from models.base import ModelFamily

FAMILIES: tuple[ModelFamily, ...] = (
    sdxl.FAMILY,
    var.FAMILY,
    pixart.FAMILY,
    infinity.FAMILY,
    diffusers_hub.FAMILY,
)
