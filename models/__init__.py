"""The models on this machine, and how one talks to them."""
