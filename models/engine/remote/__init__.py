"""An engine that is another program, perhaps elsewhere, behind an OpenAI-compatible URL."""
