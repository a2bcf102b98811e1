"""ESTIMATE: joins the units of a run's window and computes every metric of the registry."""
