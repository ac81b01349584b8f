"""Run and judge an artifact."""
