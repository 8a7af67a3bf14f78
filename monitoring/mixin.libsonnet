// Prometheus rules and Grafana dashboards for Patroni and Staytus. config.libsonnet lists what `_config` sets.
(import 'config.libsonnet')
+ (import 'alerts/alerts.libsonnet')
+ (import 'rules/rules.libsonnet')
+ (import 'dashboards/dashboards.libsonnet')
+ {
  // All rules as one object for the Prometheus Operator.
  prometheusRule:: {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'patroni-staytus-exporter' } + $._config.prometheusRuleMetadata,
    spec: { groups: $.prometheusRules.groups + $.prometheusAlerts.groups },
  },
}
