"""The use cases, as plain functions over the catalogue, MuseumPlus, the packager and the DPS. No Dagster."""
