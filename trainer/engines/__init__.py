"""Engines: the only place that knows how a step is computed and spread over devices."""
