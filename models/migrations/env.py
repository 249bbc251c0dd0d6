"""Alembic's entry: runs the migrations on the connection `models.schema` hands over. Opens nothing itself."""

from alembic import context

from models.base import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
