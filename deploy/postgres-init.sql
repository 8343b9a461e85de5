-- Run once, on an empty PostgreSQL of the compose file: Dagster's own database beside the museum's.
CREATE DATABASE dagster;
