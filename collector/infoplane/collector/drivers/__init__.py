"""Thin drivers that run the stages: over Kafka, over a recorded log, and as a Beam pipeline."""
