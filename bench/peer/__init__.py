"""What others would use instead of the engine, each with the same work. Started in `.venv-bench`; imports no engine."""
