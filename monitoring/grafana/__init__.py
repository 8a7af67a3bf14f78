"""The dashboards: what is typed here is written as JSON for Grafana."""
