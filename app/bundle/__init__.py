"""A folder that installs this program, its models and adapters where there is no network."""
