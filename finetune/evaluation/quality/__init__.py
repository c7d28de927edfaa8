"""A judge scores training data, and scores become rewards."""
