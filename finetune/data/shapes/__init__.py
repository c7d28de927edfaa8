"""What a row is: turns, a question and its answer, preferences, scored answers, trees."""
