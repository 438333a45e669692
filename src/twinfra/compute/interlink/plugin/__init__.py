"""The plug-in of a site: pods in, keepers out; what interLink's API server speaks to."""
