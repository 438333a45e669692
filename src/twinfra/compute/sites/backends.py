"""Finds a site's back end by its entry point in the group ``twinfra.sites``.

A back end that cannot be loaded stops the start with its name.
"""

from importlib.metadata import entry_points

from twinfra.compute.sites.ports import Site
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.core.errors import InternalError, InvalidRequest
from twinfra.core.service import Context

GROUP = "twinfra.sites"


def backends() -> tuple[str, ...]:
    """Return the names of all back ends that are installed."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def build_site(ctx: Context, name: str) -> Site:
    """Return the back end of site `name`, as its settings choose.

    Raises:
        InvalidRequest: no installed back end has the name that the settings give.
        InternalError: it cannot be loaded or built.
    """
    chosen = ctx.settings(ComputeSettings, name).backend
    points = [point for point in entry_points(group=GROUP) if point.name == chosen]
    if not points:
        known = ", ".join(backends())
        raise InvalidRequest(f"[sites.{name}.compute] backend: no {chosen!r} among {known}")
    try:
        site: Site = points[0].load().build(ctx, name)
    except Exception as error:  # a broken plug-in must stop with its name, whatever breaks it
        raise InternalError(f"the back end {chosen} ({points[0].value}) fails") from error
    return site
