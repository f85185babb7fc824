"""The admin HTTP server: status page, status object, metrics, health. Read-only."""
