"""The options of every verb: pydantic models, so that a flag, a key of `--config file.yaml` and the saved configuration
are one thing. Heavy imports live inside the methods: `tacit --help` loads none.
"""
