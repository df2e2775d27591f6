"""Props on one person: meshes fitted to the head, posed and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration.people.gl import GL
from calibration.people.identity import Identity
from calibration.people.props import Props
from calibration.people.shape import HeadModel, Points

if TYPE_CHECKING:
    from calibration.people.actor import Posed


class PropRig:
    """The GPU side of all props of one person. ``close`` frees it."""

    def __init__(self, gl: GL, head: HeadModel, skin: Points, who: Identity) -> None:
        """``skin`` (m, 3) is the neutral subdivided skin."""

    def draw_shadow(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> None:
        """Depth only, into the shadow map that is bound."""

    def draw(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> None:
        """Everything opaque, into the layers that are bound; its class goes into the gloss layer's alpha."""

    def draw_lenses(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> None:
        """Reflections on glass, added to what is there: gloss rgb, and the reflection's opacity on albedo alpha."""

    def hair_clip(self, props: Props) -> tuple[float, float, float, float]:
        """Plane (a, b, c, d) in the unposed head's space: hair where a x + b y + c z > d is not drawn (caps)."""
        return 0.0, 0.0, 0.0, 1.0

    def close(self) -> None:
        """Free buffers."""
