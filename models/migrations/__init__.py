"""The history of the schema; run through `models.schema` only."""
