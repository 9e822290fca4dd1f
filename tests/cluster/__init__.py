"""The product on a real cluster: `make test-cluster`. docs/compatibility.md says what it wants, and where it held."""
