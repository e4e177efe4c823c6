"""For tests of jobs and adapters: conformance suites, crash points, a fake clock."""
