"""The chain of consent in a persona's manifest: which record a real person stands under, and what came before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MOST_EARLIER = 100
"""Records that a file names from before; after so many renewals it is made anew."""


class Chain(BaseModel):
    """What a real person's persona was made of, so that every step can be held against the one before."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    consent: Sha256
    """Digest of the consent record."""
    footage: tuple[Sha256, ...] = Field(min_length=1, max_length=1000)
    """Of every file that faces were taken from; of the model itself when it was imported."""
    faceset: Sha256 | None
    """Of the face set's manifest; None: an imported model."""
    weights: Sha256
    """Of the trained weights before they were exported."""
    earlier: tuple[Sha256, ...] = Field(default=(), max_length=MOST_EARLIER)
    """Digests of the records that it stood under before, the first one first: whoever takes one of them back is heard
    still (see calibration.consent_renew)."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: Callable[[Chain], dict[str, Any]]) -> dict[str, Any]:
        """A file that was never renewed says nothing of it: such files are as they were before there was ``earlier``,
        which older versions refuse.
        """
        return {key: value for key, value in write(self).items() if key != "earlier" or value}
