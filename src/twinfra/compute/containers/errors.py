"""What can go wrong with containers beyond the common tree."""

from twinfra.core.errors import SiteRejected, Unavailable, UpstreamFault


class ImageBuildFailed(UpstreamFault):
    """A tool that builds an image (apt, dpkg, mmdebstrap, pip) failed; its log says why."""

    code, title = "image-build-failed", "The image could not be built"


class ErrImagePull(SiteRejected):
    """A pod's image cannot be had; the detail names it and says why. Kubernetes' own word."""

    code, title = "err-image-pull", "The image could not be pulled"


class ImagePullBackOff(Unavailable):
    """A pod's image cannot be had now; the detail names it and says why. Kubernetes' own word."""

    code, title = "image-pull-back-off", "The image cannot be pulled now"
