"""What can go wrong with containers beyond the common tree."""

from twinfra.core.errors import UpstreamFault


class ImageBuildFailed(UpstreamFault):
    """A tool that builds an image (apt, dpkg, mmdebstrap, pip) failed; its log says why."""

    code, title = "image-build-failed", "The image could not be built"
