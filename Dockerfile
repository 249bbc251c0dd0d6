# One image for every process: `python -m engine.stack.procfile NAME` becomes the Procfile's process of that name.
FROM python:3.12-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 engine
WORKDIR /app

# The lock first: it changes less often than the code.
COPY requirements.lock ./
RUN pip install --no-deps --require-hashes -r requirements.lock

COPY . .
RUN pip install --no-build-isolation --no-deps -e .

USER engine
ENTRYPOINT ["python", "-m", "engine.stack.procfile"]
