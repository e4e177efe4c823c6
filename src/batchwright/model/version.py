"""The version of this package: said here, and read from here by the build and by everything that tells it."""

VERSION = "0.1.0"
