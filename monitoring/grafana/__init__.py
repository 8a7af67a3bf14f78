"""The dashboards as code, rendered as JSON for Grafana."""
