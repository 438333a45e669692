"""Settings of a site with real keepers of real containers, and an issuer."""

import pytest

from twinfra.testkit.issuer import TestIssuer

SITE = "hpc-b"


@pytest.fixture
def settings(context, layout):
    """The site's settings; a test may write further ones below."""
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(f'[sites.{SITE}.compute]\nimages = ["{layout}"]\n')


@pytest.fixture
def issuer(context):
    with TestIssuer(tls=context.tls_server(), port=context.home.port("issuer")) as made:
        yield made
