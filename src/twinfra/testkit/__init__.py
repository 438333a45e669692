"""Public test kit: contract suites, fakes, real-server fixtures, a virtual clock."""
