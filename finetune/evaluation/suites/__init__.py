"""The suites of questions that OpenChat was measured with: fetched, kept, watched."""
