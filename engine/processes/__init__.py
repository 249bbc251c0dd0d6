"""The engine's own long-running processes, one module each; Celery runs the workers and beat."""
