"""What a site lets pods have of its own: folders, storage classes, users. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from twinfra.compute.interlink.pods.refused import refuse


@dataclass(frozen=True)
class ClaimClass:
    """What claims of one storage class are at this site: folders below `root`, or datasets."""

    root: str = ""
    scope: str = ""
    """Of the dataset that has the claim's name; read-only."""
    read_only: bool = False


@dataclass(frozen=True)
class Rules:
    """A site's rules; without any, nothing of the site's own is given out.

    Attributes:
        host_paths: folder of the site to whether pods may write there.
        classes: by storage class.
        isolated: containers have mount namespaces of their own.
        uid: the local user as whom the pod runs; none: whatever it asks for is shown within.
        gids: that this user has; none: likewise.
    """

    host_paths: Mapping[str, bool] = field(default_factory=dict)
    classes: Mapping[str, ClaimClass] = field(default_factory=dict)
    isolated: bool = True
    uid: int | None = None
    gids: frozenset[int] | None = None

    def allowed(self, path: PurePosixPath, where: str) -> tuple[str, bool]:
        """Return which of the site's folders a path is in, the innermost, and if it is writable.

        Raises:
            SiteRejected: in none.
        """
        roots = [root for root in self.host_paths if path.is_relative_to(root)]
        if not roots or ".." in path.parts:
            raise refuse(where, "this site does not give out that path")
        root = max(roots, key=len)
        return root, self.host_paths[root]

    def claim_class(self, name: str, where: str) -> ClaimClass:
        """Return what a storage class means here.

        Raises:
            SiteRejected: nothing.
        """
        found = self.classes.get(name)
        if found is None:
            raise refuse(where, f"this site has nothing for storage class {name[:64] or '(none)'}")
        return found

    def check_user(self, uid: int | None, where: str) -> None:
        """Refuse a user that is not the one as whom the pod runs here.

        Raises:
            SiteRejected: names the field.
        """
        if uid is not None and self.uid is not None and uid != self.uid:
            raise refuse(where, f"pods of this owner run as user {self.uid} here")

    def check_group(self, gid: int | None, where: str) -> None:
        """Refuse a group that the pod's user does not have here.

        Raises:
            SiteRejected: names the field.
        """
        if gid is not None and self.gids is not None and gid not in self.gids:
            raise refuse(where, "the user of this pod is not of that group here")
