"""A small Kubernetes client: list, watch, patch over aiohttp, msgspec structs, `Raw` for the rest.

``client`` speaks to an API server, ``config`` says to which one and as whom, ``reflector`` keeps a
reader up to date over cuts, restarts and ``410 Gone``; ``resources`` names what can be asked for,
``model`` holds the few fields that we read. Whoever needs a further field declares a struct of its
own and hands it to the same calls.
"""
