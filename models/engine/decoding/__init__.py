"""Inside the engine's child: many sequences of one model, decoded in batches."""
