"""The development issuer: OpenID Connect for one machine, on loopback, never for production."""
