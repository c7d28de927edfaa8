"""Questions with one right answer, which is found in what was written."""
