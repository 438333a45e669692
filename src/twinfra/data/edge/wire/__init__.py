"""HTTP/1.1 on asyncio's buffered protocol: heads by httptools, bodies in blocks, files by sendfile.

Knows connections, requests and answers; nothing of WebDAV, tokens or the inventory.
"""
