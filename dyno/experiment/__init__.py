"""`experiment.yaml`: its schema, its loading, and the models, data and files that it names."""
