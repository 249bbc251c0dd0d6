"""The durable side: SQLAlchemy models, repositories and migrations."""
