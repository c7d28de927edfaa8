"""What classes, conditions and rewards each bring, trained and measured alike."""
