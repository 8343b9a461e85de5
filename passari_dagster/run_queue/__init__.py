"""The Dagster instance's side: run coordinator, launcher, workers, pooled storage. No rules of the museum here."""
