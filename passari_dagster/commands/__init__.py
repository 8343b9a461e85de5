"""The commands of `passari-dagster`, by what they are about: options and words only. `cli` puts them together."""
