"""The models of this machine for other programs: an HTTP server that speaks as OpenAI's does."""
