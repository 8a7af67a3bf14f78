"""What watches with the metrics of the exporter: rules for Prometheus, dashboards for Grafana."""
