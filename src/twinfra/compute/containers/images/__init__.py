"""Container images without a registry: built here, named by digest, unpacked once a site."""
