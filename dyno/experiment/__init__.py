"""`experiment.yaml`: its schema, how it is loaded, and the models, data and files that it names."""
