"""The execution engine: domain inside, effects at the edge, `bootstrap` the only place that joins them."""
