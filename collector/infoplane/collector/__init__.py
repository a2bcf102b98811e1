"""Stages that turn records into estimates: pure state machines, a metric registry and thin drivers."""
