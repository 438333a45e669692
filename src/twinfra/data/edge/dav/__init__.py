"""WebDAV (RFC 4918, class 1) with ranges, digests and WLCG tokens, one handler a method."""
